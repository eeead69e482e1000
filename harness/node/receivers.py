"""What takes the telemetry during a run: the small sink, or the full stack; for `session`."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import ComponentError, NeedError
from harness.linux import placement, processes
from harness.meters.coverage import Sink
from harness.model import Receiver, StackKind
from harness.node.machine import Machine
from harness.stack import affinity, ledger, lifecycle
from harness.stack.full import Full
from harness.wire.spec import Placement

READY_SECONDS = 20.0

Tell = Callable[[str], None]


@dataclass
class Started:
    """A receiver, the versions of its components, and whether it stays up after the run.

    The logs of one that does not stay are kept if a trial `failed`.
    """

    receiver: Receiver
    components: Mapping[str, str] = field(default_factory=dict)
    stays: bool = False
    failed: bool = False


def check(kind: StackKind) -> None:
    """NeedError if the receiver cannot be had here."""
    if kind == "sink":
        return
    now = ledger.state()
    if now is None:
        lifecycle.require_all(lifecycle.select(()))
    elif missing := lifecycle.missing(now):
        raise NeedError(
            f"The stack that is up has no {' and no '.join(missing)}.",
            next_step="Wait until it is up, or take it down: harness down.",
        )


def start(
    kind: StackKind, machine: Machine, place: Placement, ends: ExitStack, tell: Tell
) -> Started:
    """The receiver of a run; `ends` ends what was started for it."""
    return _STARTS[kind](machine, place, ends, tell)


def _small_sink(machine: Machine, place: Placement, ends: ExitStack, tell: Tell) -> Started:
    spool, log = machine.work / "telemetry.spool", machine.work / "sink.log"
    cgroup = machine.make("sink")
    argv = [sys.executable, "-m", "harness.stack.sink", "--spool", str(spool)]
    process = processes.spawn(argv, log=log, cgroup=cgroup, cpus=place.collector)
    ends.callback(processes.stop, process)
    answer = processes.announced(process, READY_SECONDS)
    if answer is None:
        raise ComponentError("The telemetry receiver did not start.", next_step=f"See {log}.")
    return Started(Sink(f"http://127.0.0.1:{answer['port']}", spool, {"sink": cgroup}))


def _full_stack(machine: Machine, place: Placement, ends: ExitStack, tell: Tell) -> Started:
    """The stack that is up, or one for the run; off the CPUs of the service and its load."""
    stays = ledger.state() is not None
    up = ends.enter_context(lifecycle.borrowed(tell))
    now = ledger.state()
    assert now is not None
    cgroups = {one.name: Path(one.cgroup) for one in now.components}
    ends.enter_context(affinity.held(cgroups.values(), placement.beside(place)))
    logs = {one.name: Path(one.log) for one in now.components}
    started = Started(
        Full(up, cgroups, logs, stays=stays),
        {one.name: one.version for one in now.components},
        stays,
    )
    if not stays:
        ends.callback(_keep_logs, started, machine.work / "logs", logs)
    return started


def _keep_logs(started: Started, folder: Path, logs: Mapping[str, Path]) -> None:
    """What the components said, for whom a failed trial sends there: the stack's folder goes."""
    if started.failed:
        folder.mkdir(exist_ok=True)
        for name, path in logs.items():
            with contextlib.suppress(OSError):
                shutil.copy(path, folder / f"{name}.log")


_STARTS: Mapping[StackKind, Callable[[Machine, Placement, ExitStack, Tell], Started]] = {
    "sink": _small_sink,
    "full": _full_stack,
}
