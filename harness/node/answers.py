"""Questions that a node answers at once, outside of a session; for `__main__`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.errors import DEFECT, CommandError, HarnessError
from harness.linux import bpf_programs, facts, knobs, placement, processes, routes, tunables
from harness.linux import tuning as tuning_of
from harness.linux.procfs import HOST
from harness.node import doctor as checks
from harness.node import machine, needs, rehearsal, subject_source
from harness.stack import affinity, ledger
from harness.wire import codec
from harness.wire.control import Client, ControlError
from harness.wire.spec import CollectorSpec, Needs
from harness.wire.subject import Subject

ENTRY_LIMIT_SECONDS = 600.0
FLUSH_SECONDS = 20.0
AGENTS = Path("/run/agent")  # where manifests/poc has their sockets


def describe() -> dict[str, Any]:
    """What the node is, where it would put whom (`siblings`: by CPU), whether a stack is up."""
    return {
        "facts": facts.facts(),
        "placement": asdict(placement.placement()),
        "siblings": {str(cpu): placement.siblings(cpu) for cpu in os.sched_getaffinity(0)},
        "stack_up": ledger.state() is not None,
    }


def doctor(collectors: Sequence[Any] = ()) -> list[dict[str, Any]]:
    """What can run here, and the fix for each thing that cannot: `doctor.Finding`s."""
    asked = [codec.load(Needs, each) for each in collectors]
    return [asdict(finding) for finding in checks.check(asked)]


def unmet(asked: Mapping[str, Any]) -> dict[str, dict[str, str]] | None:
    """Which collectors cannot run here and why, by the keys of their needs; None without root."""
    if os.geteuid() != 0:
        return None
    found = needs.unmet({key: codec.load(Needs, each) for key, each in asked.items()})
    return {key: error.to_dict() for key, error in found.items()}


def obtain(asked: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Get these subjects, each with its lock's text, and say why one cannot be had, by its key."""
    found = {}
    for key, each in asked.items():
        try:
            subject_source.get(key, codec.load(Subject, each["subject"]), each["lock"])
        except HarnessError as error:
            found[key] = error.to_dict()
    return found


def clean(subjects: bool = False) -> dict[str, list[str]]:
    """Undo what runs left that were killed; what was `done`, and what is `left`, in sentences.

    With `subjects` what `obtain` got is removed too; NeedError while a run may need it, or gets it.
    """
    if subjects:
        machine.refuse_beside_another()
    done = [*machine.clean(), *affinity.free()]
    if subjects and (freed := subject_source.emptied()):
        done.append(freed)
    return {"done": done, "left": machine.leftovers()}


def tuning() -> list[dict[str, Any]]:
    """Each setting that disturbs a measurement: how it is `now`, is that `good`, what `tune` sets.

    `advice` is for those of which it sets nothing, `why` for all.
    """
    place = placement.placement()
    wished: dict[str, list[dict[str, str]]] = {}
    for wish in tunables.wishes(place):
        wished.setdefault(wish.knob, []).append(asdict(wish))
    return [
        {
            "name": knob.name, "now": state.text, "good": state.good,
            "set": wished.get(knob.name, []), "advice": knob.advice, "why": knob.why,
        }
        for knob, state in knobs.states(place)
    ]  # fmt: skip


def tune() -> dict[str, list[str]]:
    """Set what can be set for a measurement: what was `done`, and `refused`, in sentences.

    NeedError while something is measured, which would change in the middle; `restore` as well.
    """
    machine.refuse_beside_another()
    return asdict(tuning_of.tune(placement.placement()))


def restore() -> dict[str, list[str]]:
    """Give back what `tune` set: what was `done`, and `refused`, in sentences."""
    machine.refuse_beside_another()
    return asdict(tuning_of.restore())


def rehearse(collector: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How a collector answers to what a trial tells it: `doctor.Finding`s; five seconds."""
    spec = codec.load(CollectorSpec, collector)
    return [asdict(finding) for finding in rehearsal.rehearse(spec)]


def require_here(url: str) -> None:
    """InputError if a service that is started here could not answer at this URL."""
    routes.require_here(url)


def flushed() -> dict[str, dict[str, Any]]:
    """Have the agents of this container send all that they have; what each says, or its `error`.

    By their names, as their sockets are called.
    """
    return {path.stem: _flushed(path) for path in sorted(AGENTS.glob("*.sock"))}


def _flushed(path: Path) -> dict[str, Any]:
    try:
        with Client(path, FLUSH_SECONDS) as client:
            return client.call("flush")
    except (OSError, ControlError) as error:
        return {"error": f"{path.stem}: {error}"}


def programs() -> list[int]:
    """The ids of the BPF programs that processes of this cgroup hold, as of this container."""
    mine = HOST.text(os.getpid(), "cgroup")
    found = (bpf_programs.held(pid) for pid in HOST.pids() if HOST.text(pid, "cgroup") == mine)
    return sorted(set[int]().union(*found))


def programs_left(ids: Sequence[int]) -> list[str]:
    """Those of these that are loaded, though whoever loaded them is gone; each for a sentence."""
    return bpf_programs.described(bpf_programs.remaining(ids))


def entry() -> dict[str, Any]:
    """What getting into an empty BPF program costs here, by hook; see `agent.entry`. A minute."""
    argv = [sys.executable, "-m", "harness.agent.entry", "--json"]
    told = processes.run(argv, timeout=ENTRY_LIMIT_SECONDS).stdout
    try:
        found: dict[str, Any] = json.loads(told)
    except ValueError as error:
        raise CommandError(
            "What agent.entry printed cannot be read.", str(error), DEFECT
        ) from error
    return found
