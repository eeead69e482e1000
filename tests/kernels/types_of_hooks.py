"""Each type of hook with the empty program of its type: 23 events run it; `inside` asks."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from harness.agent import entry
from harness.agent.errors import AgentError
from harness.agent.libbpf import Object
from harness.agent.stimulus import STIMULI
from harness.meters import bpfstats
from tests.kernels.debian import ROOT
from tests.kernels.scene import EVENTS

NAMES = tuple(STIMULI)
_SAMPLED = 20_000  # system calls; a clock that counts takes the samples


def seen(hook: str) -> dict[str, Any]:
    """How often the program ran, at most as often as it had to; or why the kernel refuses it."""
    try:
        with entry.own_cgroup() as cgroup:
            return {"seen": min(EVENTS, _ran(hook, cgroup, ROOT / "bpf" / ".output"))}
    except AgentError as error:
        return {"refused": {"what": error.what, "why": error.why, "next_step": error.next_step}}


def _ran(hook: str, cgroup: Path, folder: Path) -> int:
    """Runs while attached; other processes of the guest may cause some, too."""
    with closing(Object(folder / "empty.bpf.o")) as obj:
        for program in obj.programs:
            if program.name != f"on_{hook}":
                program.skip()
        obj.load()
        (program,) = obj.programs
        with closing(STIMULI[hook](cgroup)) as stimulus, bpfstats.StatsEnabled():
            attached = stimulus.attach(obj)
            try:
                while program.info().run_cnt < EVENTS and hook == "perf_event":
                    stimulus.run(_SAMPLED)
                if hook != "perf_event":
                    stimulus.run(EVENTS)
            finally:
                attached.destroy()
            return program.info().run_cnt
