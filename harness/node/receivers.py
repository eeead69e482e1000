"""What takes the telemetry during a run: the small sink, or the full stack; for `evaluate`."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from harness.analysis.summary import summarize
from harness.collectors import resolve
from harness.errors import ComponentError, InputError, NeedError
from harness.linux import placement, processes
from harness.linux.placement import Placement
from harness.meters.coverage import Sink
from harness.model import Receiver, StackKind
from harness.node.machine import Machine
from harness.plan.experiment import Experiment
from harness.results.run import Run
from harness.stack import affinity, ledger, lifecycle, results
from harness.stack.full import BACKENDS, Full

READY_SECONDS = 20.0

Tell = Callable[[str], None]


def check(experiment: Experiment) -> None:
    """InputError or NeedError if the receiver cannot be had, or cannot tell collectors apart."""
    if experiment.stack == "sink":
        return
    for spec in (s for arm in experiment.arms for s in (*arm.collectors, *arm.against)):
        if not resolve(spec).tells_instance:
            raise InputError(
                f"The telemetry of {spec!r} cannot be found among other things in the full stack.",
                "It does not say from which instance it is.",
                "Let its command take {instance} as service.instance.id, or use --stack sink.",
            )
    now = ledger.state()
    if now is None:
        lifecycle.require_all(lifecycle.select(BACKENDS))
    elif missing := sorted({*BACKENDS} - {one.name for one in now.components}):
        raise NeedError(
            f"The stack that is up has no {' and no '.join(missing)}.",
            next_step="Wait until it is up, or take it down: harness down.",
        )


def plan(experiment: Experiment) -> str:
    """Where telemetry would go, as a sentence."""
    if experiment.stack == "sink":
        return "telemetry goes to the small sink, which only notes what arrives"
    which = "the one that is up" if ledger.state() else "started for the run, then taken down"
    more = f"{experiment.asking_seconds:.0f} s more a trial with collectors"
    return f"telemetry goes to the full stack, {which}: {more}"


def start(run: Run, target: Machine, place: Placement, stack: ExitStack, tell: Tell) -> Receiver:
    """The receiver of a run's experiment; `stack` ends what was started for it."""
    return _STARTS[run.experiment().stack](run, target, place, stack, tell)


def send_results(run: Run, receiver: Receiver) -> str:
    """The run's figures into a stack that stays up, for its dashboards; why not, if it failed."""
    if isinstance(receiver, Full) and receiver.stays:
        try:
            results.send(receiver.url, run.path.name, summarize(run).rows)
        except ComponentError as error:
            return f"The results are not in the stack: {error}"
    return ""


def _small_sink(
    run: Run, target: Machine, place: Placement, stack: ExitStack, tell: Tell
) -> Receiver:
    spool, log = run.path / "telemetry.spool", run.path / "sink.log"
    cgroup = target.make("sink")
    argv = [sys.executable, "-m", "harness.stack.sink", "--spool", str(spool)]
    process = processes.spawn(argv, log=log, cgroup=cgroup, cpus=place.collector, pipe_stdout=True)
    stack.callback(processes.stop, process)
    answer = processes.announced(process, READY_SECONDS)
    if answer is None:
        raise ComponentError("The telemetry receiver did not start.", next_step=f"See {log}.")
    return Sink(f"http://127.0.0.1:{answer['port']}", spool, {"sink": cgroup})


def _full_stack(
    run: Run, target: Machine, place: Placement, stack: ExitStack, tell: Tell
) -> Receiver:
    """The stack that is up, or one for the run; off the CPUs of the workload and its load."""
    stays = ledger.state() is not None
    up = stack.enter_context(lifecycle.borrowed(tell, BACKENDS))
    now = ledger.state()
    assert now is not None
    cgroups = {one.name: Path(one.cgroup) for one in now.components}
    stack.enter_context(affinity.held(cgroups.values(), placement.beside(place)))
    run.note(components={one.name: one.version for one in now.components})
    logs = {one.name: Path(one.log) for one in now.components}
    if not stays:
        stack.callback(_keep_logs, run, logs)
    return Full(up, cgroups, logs, stays=stays)


def _keep_logs(run: Run, logs: Mapping[str, Path]) -> None:
    """What the components said, for whom a failed trial sends there: the stack's folder goes."""
    if any(record.status == "failed" for record in run.records()):
        (run.path / "logs").mkdir(exist_ok=True)
        for name, path in logs.items():
            with contextlib.suppress(OSError):
                shutil.copy(path, run.path / "logs" / f"{name}.log")


_STARTS: Mapping[StackKind, Callable[[Run, Machine, Placement, ExitStack, Tell], Receiver]] = {
    "sink": _small_sink,
    "full": _full_stack,
}
