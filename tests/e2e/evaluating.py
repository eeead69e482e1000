"""A small evaluation from the outside, and what it must not leave behind; for its tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from harness.controller import evaluate
from harness.controller.beginning import beginning
from harness.controller.resolved import check
from harness.linux import processes
from harness.node import machine
from harness.plan import experiment
from harness.plan.experiment import Experiment
from harness.results.run import Run
from harness.targets.local import Local
from tests.waiting import until

SHORT = """
warmup_seconds = 0.5
warmup_limit_seconds = 3.0
settle_seconds = 0.3
switched_seconds = 3.2
steady_seconds = 2.0
metered_seconds = 1.5
replacements = 0
calibration_seconds = 0.5
seed = 5
"""

HARNESS = [sys.executable, "-m", "harness"]
ROOT = Path(__file__).resolve().parents[2]

SMALL = """
workloads = ["go"]
blocks = 1
replacements = 0
warmup_seconds = 0.5
warmup_limit_seconds = 1.0
switched_seconds = 4.0
steady_seconds = 1.0
metered_seconds = 1.0
calibration_seconds = 1.0
seed = 5
loads = { go = { rate = 300 } }
[[arms]]
name = "baseline"
[[arms]]
name = "http"
collectors = ["http"]
"""


def clean_machine() -> Iterator[None]:
    """Whatever happens meanwhile leaves the machine as it was."""
    before, programs = _traces(), _programs()
    yield
    assert machine.leftovers() == [], machine.leftovers()
    left = _traces() - before
    assert not left, sorted(left)
    # the kernel frees programs a little later
    assert until(lambda: not _programs() - programs), sorted(_programs() - programs)


def _programs() -> set[str]:
    """BPF programs."""
    told = json.loads(processes.run(["bpftool", "prog", "list", "-j"]).stdout or "[]")
    return {f"program {each['id']} {each.get('name')}" for each in told}


def _traces() -> set[str]:
    """Our cgroups, scratch folders and mounts, and every process of ours."""
    mounts = {
        line.split()[4]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if line.split()[4] in ("/sys/kernel/tracing", "/sys/kernel/debug", "/sys/fs/bpf")
    }
    cgroups = {str(p) for p in Path("/sys/fs/cgroup").glob("**/harness/**") if p.is_dir()}
    scratch = {
        str(path) for path in (*Path("/run/harness").glob("*"), *Path("/var/tmp").glob("harness-*"))
    }
    left = {
        f"process {path.parent.name}: {line}"
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if _is_ours(line := _command_line(path))
    }
    return mounts | cgroups | scratch | left


def _command_line(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it ended meanwhile
        return ""


def _is_ours(line: str) -> bool:
    ours = (
        "harness.agent", "harness.load", "harness.stack.sink", f"{ROOT}/workloads/",
        "gunicorn", "nginx -c", "server.py",
    )  # fmt: skip
    return any(name in line for name in ours)


def command(*arguments: str | Path, check: bool = True) -> processes.Completed:
    argv = [*HARNESS, *map(str, arguments)]
    return processes.run(argv, check=check, timeout=300, env={"COLUMNS": "200"}, cwd=ROOT)


def words(said: str) -> str:
    return " ".join(said.split())


def evaluated(chosen: Experiment, path: Path) -> evaluate.Outcome:
    """An evaluation by this process, so that a test can change what it decides."""
    resolved = check(chosen)
    begin = beginning(path, chosen, resolved, command=[])
    return evaluate.evaluate(Local(), path.name, chosen, resolved, begin)


def ended(text: str, folder: Path) -> evaluate.Outcome:
    """An evaluation of the experiment that is this TOML text; nothing is left of it but its run."""
    file = folder / "experiment.toml"
    file.write_text(text)
    outcome = evaluated(experiment.load(file), folder / "run")
    assert outcome.error is None
    assert machine.leftovers() == []
    return outcome


def completed(text: str, folder: Path) -> Run:
    """The same of which every trial was measured."""
    outcome = ended(text, folder)
    assert outcome.left_out == 0, outcome.warnings
    assert [r.reason for r in outcome.run.records() if r.status != "ok"] == []
    return outcome.run


def beside_a_service(workload: str, spec: str, blocks: int = 1) -> str:
    """An experiment, as TOML: this collector, or that of a definition, alone beside a service."""
    load = f"[loads.{workload}]\nrate = 120\n"
    arms = f'[[arms]]\nname = "baseline"\n[[arms]]\nname = "theirs"\ncollectors = ["{spec}"]\n'
    return f'workloads = ["{workload}"]\nblocks = {blocks}\n{SHORT}\n{arms}{load}'
