"""Finds how much telemetry a second the stack takes: rates that rise until one is too much.

reports/<run>/
  run.json         what was asked for, the machine, and what was counted afterwards
  steps.jsonl      one line a step, as it was measured
  ramp.json ramp.md ramp.png ramp.svg     computed from those; `--report` does it again
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from harness import __version__
from harness.analysis import ramp as analysis
from harness.analysis.ramp import Step
from harness.benchmarks.ramp_step import Bench
from harness.errors import InputError, NeedError, StoreError
from harness.linux import cgroup, facts, mount
from harness.linux.stop_signals import interruptible
from harness.linux.undo_journal import DIRECTORY, Journal, require_alone
from harness.node import machine, undo
from harness.report import capacity
from harness.report import ramp as report
from harness.results.folder import new_folder, writing
from harness.stack import backends, catalog, ledger, lifecycle
from harness.stack.config import Stack
from harness.stack.questions import Keeper, Logs, Metrics, Traces
from harness.stack.requests import SAMPLES_PER_POINT, SPANS_PER_TRACE
from harness.wire import run_name
from harness.wire.files import write_whole
from harness.wire.telemetry import RECORDS

SCHEMA = "ramp-1"
ABOUT, STEPS = "run.json", "steps.jsonl"
START = {"spans": 2000.0, "points": 4000.0, "logs": 4000.0}  # records a second
POINTS = "ramp_"  # of the names of all points
TRACES = 100  # at most, that are looked up one by one
ACCOUNT_SECONDS = 60.0  # after everything was found, for the last to be counted

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What a ramp was asked for; `start` 0 takes a signal's own, `limit_lag` in seconds."""

    signals: tuple[str, ...] = tuple(RECORDS)
    start: float = 0.0
    factor: float = 1.5
    step_seconds: float = 10.0
    limit_lag: float = 5.0
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := set(self.signals) - set(RECORDS):
            raise InputError(
                f"There is no signal {', '.join(sorted(unknown))}.",
                next_step=f"There are: {', '.join(RECORDS)}.",
            )
        if not 1.05 <= self.factor <= 10:
            raise InputError(
                f"The factor is between 1.05 and 10, not {self.factor:g}.",
                next_step="Give --factor 1.5, or leave it out.",
            )
        if not 4 <= self.step_seconds <= 600:
            raise InputError(
                f"A step takes between 4 and 600 seconds, not {self.step_seconds:g}.",
                next_step="Give --step-seconds 10, or leave it out.",
            )
        if self.start < 0 or not 0.5 <= self.limit_lag <= 60:
            raise InputError(
                "The start is positive, and the limit between 0.5 and 60 seconds.",
                next_step="Correct --start or --limit-lag, or leave them out.",
            )

    def first(self, signal_: str) -> float:
        """The first rate of a signal."""
        return self.start or START[signal_]


def check() -> None:
    """NeedError, before anything is made or touched, if no ramp can run here now."""
    if os.geteuid() != 0:
        raise NeedError(
            "Root is needed.",
            "Each component and the generator get a cgroup, so that their CPU is known.",
            "Run the command again with sudo.",
        )
    machine.refuse_beside_another()


def create(path: Path, asked: Asked) -> None:
    """Make the folder of a ramp; StoreError if it exists, InputError if its name is none."""
    run_name.check(path.name)
    about = {
        "run": path.name,
        "version": __version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "asked": asdict(asked),
        "facts": facts.facts(),
    }
    with new_folder(path) as draft:
        write_whole(draft / ABOUT, _text(about))


def ramp(path: Path, asked: Asked, tell: Tell = lambda _: None) -> dict[str, Any]:
    """Run it, on the stack that is up or one that is started for it, and write the report.

    A HarnessError that ends it is raised; the steps that were measured are kept.
    """
    check()
    with interruptible() as stopping, ExitStack() as ends:
        try:
            stack = ends.enter_context(lifecycle.borrowed(tell))
            bench = _bench(stack, path, asked, ends)
            for each in asked.signals:
                _signal(bench, each, path, asked, tell)
        finally:
            stopping.shield()
    return write(path)


def write(path: Path) -> dict[str, Any]:
    """Write the report from what was measured; needs no root. StoreError if there is nothing."""
    return report.write(path, _about(path), steps(path))


def steps(path: Path) -> list[Step]:
    """The steps in the order in which they were held."""
    try:
        lines = (path / STEPS).read_text().splitlines()
        return [Step.from_dict(json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(
            f"{path / STEPS} cannot be read.",
            f"{error}.",
            "Make the ramp again: harness ramp.",
        ) from error


def _signal(bench: Bench, each: str, path: Path, asked: Asked, tell: Tell) -> None:
    """The ramp of one signal, and the account of it."""
    mark, began = secrets.token_hex(8), time.time()
    done, traces = list[Step](), list[str]()
    rate: float | None = 0.0
    while rate is not None:
        step, sent = bench.hold(each, rate, asked.step_seconds, mark)
        with _writing(path, STEPS), (path / STEPS).open("a") as out:
            out.write(json.dumps(step.to_dict()) + "\n")
        done.append(step)
        traces += sent
        tell(capacity.line(step, analysis.judge(step, asked.limit_lag)))
        if step.drained is None:
            tell(f"{each}: what was sent is not through after minutes; the ramp ends here")
            break
        rate = analysis.next_rate(done, asked.first(each), asked.factor, asked.limit_lag)
    about = _about(path)
    counted = _account(bench.stack, each, mark, done, traces, time.time() - began)
    _write(path, {**about, "account": {**about.get("account", {}), each: counted}})
    tell(capacity.accounted(each, counted))


def _account(
    stack: Stack, each: str, mark: str, done: Sequence[Step], traces: Sequence[str], seconds: float
) -> dict[str, Any]:
    """How much the Collector acknowledged, and how much of that is in the backend.

    Where a post got no answer (`unknown`), the backend may hold more than was acknowledged.
    """
    keeper = backends.keeper(stack, RECORDS[each])
    title = catalog.known()[stack.keeps[RECORDS[each]]].title
    accepted = sum(step.sent.get("accepted", 0) for step in done)
    unknown = sum(step.sent.get("failed", 0) for step in done)
    if each == "spans":
        once = list(dict.fromkeys(traces))
        some = once[:: -(-len(once) // TRACES) or 1]
        taken = sum(s.counts["arrived"] - sum(analysis.discarded(s).values()) for s in done)
        return {
            "accepted": sum(step.counts["accepted"] for step in done),
            "found": taken,
            "unit": "spans",
            "unknown": unknown,
            "traces": len(some),
            "whole": _settled(lambda: _whole(cast(Traces, keeper), some), len(some)),
            "keeper": title,
        }
    wanted = round(accepted * (SAMPLES_PER_POINT if each == "points" else 1))
    age = seconds + 2 * ACCOUNT_SECONDS
    return {
        "accepted": wanted,
        "found": _settled(lambda: _kept(keeper, each, mark, age), wanted),
        "unit": "samples" if each == "points" else "lines",
        "unknown": unknown,
        "keeper": title,
    }


def _kept(keeper: Keeper, each: str, mark: str, seconds: float) -> float | None:
    if each == "points":
        return cast(Metrics, keeper).number(mark, POINTS, seconds)
    return cast(Logs, keeper).number(mark, seconds)


def _whole(keeper: Traces, traces: Sequence[str]) -> int:
    """How many of these traces it has with all their spans."""
    return sum(keeper.size(trace) == SPANS_PER_TRACE for trace in traces)


def _settled(count: Callable[[], float | None], wanted: float) -> float | None:
    """The count once it is what was wanted, or after a minute."""
    deadline = time.monotonic() + ACCOUNT_SECONDS
    while ((found := count()) is None or found < wanted) and time.monotonic() < deadline:
        time.sleep(2.0)
    return found


def _bench(stack: Stack, path: Path, asked: Asked, ends: ExitStack) -> Bench:
    state = ledger.state()
    parts = {one.name: Path(one.cgroup) for one in state.components} if state else {}
    missing = {stack.keeps[RECORDS[each]] for each in asked.signals} - set(parts)
    if missing:
        raise NeedError(
            f"The stack that is up lacks {', '.join(sorted(missing))}.",
            next_step="Take another signal: --signal.",
        )
    bench = Bench(stack, parts, ends.enter_context(_cgroup(path)), path)
    ends.callback(bench.close)
    return bench


@contextmanager
def _cgroup(path: Path) -> Iterator[Path]:
    """A cgroup for the generator, noted in the journal: `harness clean` finds it after a crash."""
    root = mount.find("cgroup2")
    if root is None:
        raise NeedError("cgroup v2 is not mounted.", next_step="harness doctor says more.")
    journal, own = Journal(DIRECTORY), root / cgroup.PARENT / f"ramp-{path.name}"
    with journal.locked():
        require_alone(journal)
        undo.dead(journal)  # one of this name would be forgotten
        entry = journal.open(path.name, str(path))
        entry.cgroups.append(str(own))
        journal.write(entry)
    try:
        cgroup.create(own)
        yield own
    finally:
        cgroup.remove(own)
        with journal.locked():
            journal.remove(entry)


def _about(path: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((path / ABOUT).read_text())
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} is not a ramp.", f"{error}.", "`harness ramp` makes one below reports/."
        ) from error
    if about.get("schema") != SCHEMA:
        raise StoreError(
            f"{path} has schema {about.get('schema')}, this reads {SCHEMA}.",
            next_step="`harness ramp` makes one below reports/.",
        )
    return about


def _write(path: Path, about: Mapping[str, Any]) -> None:
    with _writing(path, ABOUT):
        write_whole(path / ABOUT, _text(about))


def _text(about: Mapping[str, Any]) -> str:
    return json.dumps({"schema": SCHEMA, **about}, indent=1) + "\n"


def _writing(path: Path, name: str) -> AbstractContextManager[None]:
    return writing(path / name, f"harness ramp --report {path}")
