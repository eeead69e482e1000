"""Everything that is printed of made-up runs, as it is kept below tests/cases/report/.

`make golden` writes the files again; `git diff` then shows what a change does to what is printed.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from harness.cli import app, choice, screen
from harness.model import Arm
from tests.unit import stacked, synthetic
from tests.unit.synthetic import Truth

FOLDER = Path(__file__).with_name("report")
WIDTH = 120  # of a terminal
LOUD = Truth({"http": 6.0, "flows": 2.0, "profile": 0.0})
BASELINE, HTTP = Arm("baseline"), Arm("http", ("http",))
FORMS = {"report.md": "md", "report.json": "json", "report.html": "html"}
BUDGETS = {
    "pass": ("coverage_percent[requests]", "min = 99"),
    "fail": ("workload_cpu_us", "max = 1"),
    "inconclusive": ("workload_cpu_us", "max = 6"),
    "against": ("workload_cpu_us", "max_increase = 1"),
}


def small(path: Path) -> Any:
    """Two services, collectors alone and together, all of it measured."""
    arms = (BASELINE, HTTP, Arm("profile", ("profile",)), Arm("all", ("http", "profile")))
    what = synthetic.experiment(workloads=("go", "java"), arms=arms, switched_seconds=2.4)
    return synthetic.write(path, what, LOUD)


def partial(path: Path) -> Any:
    """A run that was interrupted: trials failed, were skipped, invalid, or not measured at all."""
    arms = (BASELINE, HTTP, Arm("flows", ("flows",)), Arm("guard", ("guard",)))
    what = synthetic.experiment(workloads=("go",), arms=arms, switched_seconds=1.2)
    fates: dict[tuple[str, int], dict[str, Any]] = {
        ("guard", 0): {"status": "skipped", "reason": "The kernel lacks BTF."},
        ("flows", 0): {"status": "failed", "reason": "The agent of collector 'flows' ended."},
        ("http", 1): {"extra": {"saturated": "the load driver used 97% of its CPU"}},
        ("baseline", 0): {"extra": {"warnings": ["The profile has no symbols: no debug data."]}},
    }
    run = synthetic.write(
        path, what, LOUD, only=range(12), complete=False,
        stopped_by="The workload 'go' ended.",
        skipped_arms=[{"arm": "guard", "reason": "The kernel lacks BTF."}],
        warmups=[{"workload": "go", "block": 0, "seconds": 30.0, "steady": False}],
        ended_early={"go": {"blocks": 1, "reason": "The time budget of 5 minutes was used up."}},
    )  # fmt: skip
    told = []
    for record in run.records():
        trial = record.trial
        changes = fates.get((trial.arm, trial.block), {})
        if not changes or trial.kind != "switched":
            continue
        changed = dataclasses.replace(record, **changes)
        run.append(changed, run.windows(trial) if changed.status == "ok" else ())
        told += [f"{trial.name}: {changed.reason}"] if changed.reason else []
    run.note(warnings=[*told, "The results are not in the stack: no answer."])
    return run


def against(path: Path) -> Any:
    """Two sets of collectors that take turns."""
    arms = (BASELINE, Arm("new", ("http",), ("flows",)))
    return synthetic.write(
        path, synthetic.experiment(workloads=("go",), arms=arms, switched_seconds=2.4), LOUD
    )


def twin(path: Path) -> Any:
    """The other methods: two processes, and parts of a trial."""
    arms = (
        BASELINE, Arm("null", (), (), "twin"), Arm("twin", ("http",), (), "twin"),
        Arm("block", ("http",), (), "block"),
    )  # fmt: skip
    what = synthetic.experiment(workloads=("go",), arms=arms, switched_seconds=2.4, blocks=3)
    return synthetic.write(path, what, LOUD)


def factorial(path: Path) -> Any:
    """Arms that share their trials, of which one went on without a collector."""
    arms = (
        Arm("baseline", method="factorial"), Arm("http", ("http",), method="factorial"),
        Arm("flows", ("flows",), method="factorial"),
        Arm("all", ("http", "flows"), method="factorial"),
    )  # fmt: skip
    what = synthetic.experiment(workloads=("go",), arms=arms, switched_seconds=4.0, blocks=3)
    run = synthetic.write(path, what, LOUD)
    reason = "The agent of collector 'flows' ended with exit code 9."
    for record in run.records():
        if record.trial.block == 1:
            said = f"flows was left out, the other collectors were measured: {reason}"
            extra = {**record.extra, "left_out": {"flows": reason}, "warnings": [said]}
            run.append(dataclasses.replace(record, extra=extra), run.windows(record.trial))
    return run


RUNS: Mapping[str, Callable[[Path], Any]] = {
    "small": small, "factorial": factorial, "partial": partial, "against": against,
    "twin": twin, "stack": stacked.write,
}  # fmt: skip


def outputs() -> dict[str, str]:
    """Each file's name and text."""
    found: dict[str, str] = {}
    with _elsewhere():
        for name, make in RUNS.items():
            run = make(Path(name))
            found[f"{name}.txt"] = _command("report", name)
            for written, ending in FORMS.items():
                found[f"{name}.{ending}"] = Path(name, written).read_text()
            if run.experiment().stack == "sink":  # of the other, what is up here is part of it
                found[f"{name}-plan.txt"] = "\n".join(choice.plan(run.experiment())) + "\n"
        for outcome, budget in BUDGETS.items():
            found |= {f"gate-{outcome}.{k}": v for k, v in _gate(outcome, *budget).items()}
    return found


def _gate(outcome: str, metric: str, limit: str) -> dict[str, str]:
    """What `harness gate` prints and writes of the run `small`, by the files' endings."""
    budget = f'[[budget]]\nmetric = "{metric}"\narm = "http"\nworkload = "go"\n{limit}\n'
    Path("budget.toml").write_text(budget)
    options = ["--against", "small"] if outcome == "against" else []
    said = _command(
        "gate", "small", "--budget", "budget.toml", *options, "--junit", "gate.xml",
        "--markdown", "gate.md", "--json-file", "gate.json", "--link", "https://example.org",
    )  # fmt: skip
    return {"txt": said, **{e: Path(f"gate.{e}").read_text() for e in ("xml", "md", "json")}}


def _command(*arguments: str) -> str:
    """What a command says on both of its outputs, and its exit code."""
    done = CliRunner().invoke(app, list(arguments))
    return f"{done.stdout}--- stderr\n{done.stderr}--- exit code {done.exit_code}\n"


@contextmanager
def _elsewhere() -> Iterator[None]:
    """In an empty folder, so that paths are alike, and with a terminal of one width."""
    here = os.getcwd()
    widths = [(console, console.width) for console in (screen.out, screen.err)]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for console, _ in widths:
            console.width = WIDTH
        try:
            yield
        finally:
            for console, width in widths:
                console.width = width
            os.chdir(here)


def main(arguments: Sequence[str]) -> None:
    """Write the files, into the folder that is given or where they are kept."""
    folder = Path(*arguments[:1]) if arguments else FOLDER
    folder.mkdir(exist_ok=True)
    for name, text in outputs().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
