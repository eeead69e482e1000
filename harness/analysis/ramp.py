"""From the steps of a ramp to the rate that is held and what ends it: pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

KEPT_UP = 0.98  # of what was due; less is not held
GROWTH = 0.05  # of the rate by which a queue grows that will not end
WAITING = 0.5  # seconds of the rate that must wait by then; what is batched waits, too
FULL = 0.05  # idle share below which the machine's CPUs are called busy
SPARE = 0.2  # idle share above which a bad step may be an accident and is tried once more
OTHERS = 0.2  # CPUs that others used, from which the machine was shared: so it may be, too
STEAL = 0.05  # share of the CPUs' time that a hypervisor took, from which it was, too
BISECTIONS = 2
STEPS = 40  # at most
HALVINGS = 4  # of a first rate that is not held

ONCE = {"spans": "tempo", "points": "prometheus", "logs": "loki"}

Reason = Literal[
    "refused", "unanswered", "dropped", "discarded", "lag", "queue", "stuck", "held", "generator"
]
OURS = ("generator", "harness", "host")  # keys of `cpu` that are no component of the stack


@dataclass(frozen=True)
class Step:
    """One rate that was held for some seconds, and what was seen meanwhile.

    `accepted` and `arrived` are records a second over the metered part, `cpu` CPU seconds a second
    over it (by component, and `generator`, `harness`, `host`), `queue` how much waited at each
    second of it. `sent` is the generator's tally and `counts` the differences of the stack's own
    counters, both of the whole step. `lags` are the seconds until each marked record was found,
    None if it was not; `drained` until nothing waited, None if it did not come to that. `idle` and
    `steal` are shares of the CPUs' time, `memory` in MB. `keeper` is the component that keeps the
    signal, `titles` are the components' names in sentences.
    """

    signal: str
    rate: float  # asked; 0: nothing is sent
    seconds: float
    accepted: float = 0.0
    arrived: float = 0.0
    sent: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)
    queue: Sequence[float] = ()
    lags: Sequence[float | None] = ()
    cpu: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    idle: float = 1.0
    steal: float = 0.0
    drained: float | None = 0.0
    keeper: str = ""
    titles: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Step:
        """The step that `to_dict` wrote; of earlier ones ONCE says who kept the signal."""
        return cls(**{"keeper": ONCE[values["signal"]], **values})

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @property
    def lag(self) -> float:
        """The longest lag (s); infinite if a marked record was not found, 0 if none was sent."""
        return max((math.inf if lag is None else lag for lag in self.lags), default=0.0)


@dataclass(frozen=True)
class Capacity:
    """The highest rate that was held, and the lowest above it that was not, where there is one.

    `at_least`: the ramp ended before the stack did, by the generator, or on CPUs that others used,
    too. `limit` is the component that ends it, `full` whether the CPUs were busy; both of `bad`.
    """

    good: Step | None
    bad: Step | None
    reasons: tuple[Reason, ...] = ()
    at_least: bool = False
    limit: str = ""
    full: bool = False


def judge(step: Step, limit_lag: float) -> tuple[Reason, ...]:
    """Why a rate is not held; empty if it is."""
    sent, counts = step.sent, step.counts
    due = sent.get("due", 0)
    lost = {key: sent.get(key, 0) for key in ("refused", "rejected", "failed", "held", "starved")}
    slow = due > 0 and lost["held"] > (1 - KEPT_UP) * due
    busy = step.cpu.get("generator", 0.0) > 0.9  # Python uses one CPU at most
    found: dict[Reason, bool] = {
        "refused": lost["refused"] + lost["rejected"] + counts.get("refused", 0) > 0,
        "unanswered": lost["failed"] + counts.get("unmarked", 0) > 0,
        "dropped": counts.get("failed", 0) + counts.get("unqueued", 0) > 0,
        "discarded": any(value > 0 for value in discarded(step).values()),
        "lag": step.lag > limit_lag,
        "queue": _grows(step),
        "stuck": step.drained is None,
        "held": slow and not busy,
        "generator": (due > 0 and lost["starved"] > (1 - KEPT_UP) * due)
        or (slow and busy)
        or due < KEPT_UP * step.rate * step.seconds,
    }
    return tuple(reason for reason, holds in found.items() if holds)


def discarded(step: Step) -> dict[str, float]:
    """Records that the backend turned away in this step, by its reason."""
    head = "discarded."
    return {k.removeprefix(head): v for k, v in step.counts.items() if k.startswith(head)}


def _grows(step: Step) -> bool:
    """More than half a second's worth waits at the end, and it became more all the time."""
    if len(step.queue) < 3 or step.rate <= 0 or step.queue[-1] < WAITING * step.rate:
        return False
    slope = np.polyfit(np.linspace(0.0, step.seconds, len(step.queue)), step.queue, 1)[0]
    return bool(slope > GROWTH * step.rate)


def next_rate(steps: Sequence[Step], start: float, factor: float, limit_lag: float) -> float | None:
    """The rate to try next: up by the factor, then between good and bad; None at the end.

    A bad step that left the machine with spare CPU, or that others took CPU from, is tried once
    more: it may be an accident.
    """
    loaded = [step for step in steps if step.rate > 0]
    if not loaded:
        return start
    if len(loaded) >= STEPS:
        return None
    last = loaded[-1]
    tries = sum(step.rate == last.rate for step in loaded)
    bad = bool(judge(last, limit_lag))
    if bad and tries == 1 and (last.idle > SPARE or shared(last)):
        return last.rate
    low, high = _bounds(loaded, limit_lag)
    if high is None:
        return last.rate * factor
    if low is None:
        halvings = len({step.rate for step in loaded if step.rate < start})
        return high.rate / 2 if halvings < HALVINGS else None
    fine = factor ** (0.5**BISECTIONS) * 1.001
    return math.sqrt(low.rate * high.rate) if high.rate / low.rate > fine else None


def nobody(step: Step) -> float:
    """CPU of the machine that no cgroup of the stack, the generator or the harness paid for."""
    named = sum(cpu for name, cpu in step.cpu.items() if name != "host")
    return step.cpu.get("host", 0.0) - named


def shared(step: Step) -> bool:
    """Whether others on the machine, or beside it, took CPU that the stack could have used."""
    return nobody(step) > OTHERS or step.steal > STEAL


def capacity(steps: Sequence[Step], limit_lag: float) -> Capacity:
    """What the steps of one signal tell: the rate that is held, and what ends it."""
    low, high = _bounds([step for step in steps if step.rate > 0], limit_lag)
    if high is None:
        return Capacity(low, None, at_least=True)
    reasons, full = judge(high, limit_lag), high.idle < FULL
    limit = _limit(high, reasons, full)
    least = limit == "generator" or shared(high)
    return Capacity(low, high, reasons, at_least=least, limit=limit, full=full)


def _limit(step: Step, reasons: Sequence[Reason], full: bool) -> str:
    """The component that ends it, or `generator`.

    Where the CPUs are busy, whoever uses them most; else who turned records away, or behind whom
    they wait.
    """
    if "discarded" in reasons:
        return step.keeper
    used = {n: cpu for n, cpu in step.cpu.items() if n not in OURS or n == "generator"}
    if set(reasons) == {"generator"}:
        return "generator"
    if full and used:
        return max(used, key=lambda name: used[name])
    waits = {"lag", "queue", "stuck"} & set(reasons)
    return step.keeper if waits else "otelcol"


def _bounds(loaded: Sequence[Step], limit_lag: float) -> tuple[Step | None, Step | None]:
    """The highest rate that was held below the lowest that was not, and that; last tries count."""
    last = {step.rate: step for step in loaded}
    bad = [step for step in last.values() if judge(step, limit_lag)]
    high = min(bad, key=lambda step: step.rate, default=None)
    good = [
        step
        for step in last.values()
        if not judge(step, limit_lag) and (high is None or step.rate < high.rate)
    ]
    return max(good, key=lambda step: step.rate, default=None), high
