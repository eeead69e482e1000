"""The vocabulary: frozen dataclasses and the one Protocol that every other module speaks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BASELINE = "baseline"
IDLE_CPUS = "idle CPUs"  # the setting of a machine that an evaluation holds itself

TrialKind = Literal["switched", "metered"]
Method = Literal["switch", "twin", "block"]
TrialStatus = Literal["ok", "invalid", "failed", "skipped"]
StackKind = Literal["sink", "full"]
Arrivals = Literal["periodic", "poisson"]


@dataclass(frozen=True)
class Claim:
    """A published overhead figure, as its source states it."""

    text: str
    source: str


@dataclass(frozen=True)
class Load:
    """How a workload is driven. Rate in arrivals per second; `fraction` of the capacity found.

    `periodic` arrivals are equally spaced, so that every window holds the same work; `poisson` ones
    come independently of each other, as those of many users do, so that requests queue.
    """

    rate: float | None = None
    fraction: float = 0.4
    connections: int = 16
    max_rate: float = 2500.0
    arrivals: Arrivals = "periodic"


@dataclass(frozen=True)
class Arm:
    """A name, the collectors installed in it, and how on is compared with off.

    `switch` turns them on and off every window, `twin` drives two identical processes of which
    one is in their scope, `block` installs and removes them. An arm without collectors is an A/A
    comparison; `baseline` is one and is switched on paper. With `against`, a switched arm compares
    its collectors with those: they are on while the arm's own are off.
    """

    name: str
    collectors: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    method: Method = "switch"


@dataclass(frozen=True)
class Trial:
    """One arm within one block of one workload; `index` is its place in the seeded order.

    `switched` trials compare on with off by the arm's method; `metered` trials read the kernel's
    BPF statistics. `attempt` counts the repetitions of a trial that broke a rule of validity.
    """

    index: int
    workload: str
    block: int
    arm: str
    kind: TrialKind
    seed: int
    attempt: int = 0

    @property
    def name(self) -> str:
        """The name of its folder in the run directory."""
        again = f"-again{self.attempt}" if self.attempt else ""
        return f"{self.index:03d}-{self.workload}-b{self.block}-{self.arm}-{self.kind}{again}"


@dataclass(frozen=True)
class Window:
    """A stretch of a trial; times are CLOCK_MONOTONIC nanoseconds at which meters were read."""

    index: int
    quadruple: int
    on: bool
    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class WindowRow:
    """A window with the differences of all meters over it (`cpu.*` in seconds)."""

    window: Window
    meters: Mapping[str, float]


@dataclass(frozen=True)
class Measurement:
    """One value of the long-format table; `window` is None for a value of the whole trial."""

    metric: str
    value: float
    unit: str
    workload: str
    arm: str
    block: int
    trial: str
    window: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """A difference with its interval: one row of report.json, see docs/report-schema.md.

    `estimate`, `low`, `high` and `mde` (smallest effect that would have been seen with 80 %
    power at the 5 % level) are in `unit`; `level` is the off value they are compared with. `p` is
    the two-sided probability of so large a difference by chance, `p_holm` the same after Holm's
    correction over the arms of a workload, `noise` half the width of the A/A arm's interval; each
    is NaN where it is not defined.
    """

    workload: str
    arm: str
    metric: str
    unit: str
    estimate: float
    low: float
    high: float
    n: int
    mde: float
    level: float
    method: str
    p: float = math.nan
    p_holm: float = math.nan
    noise: float = math.nan


@dataclass(frozen=True)
class Part:
    """What one scope sent in a part of a run, or only a sender of this service.instance.id.

    Times are CLOCK_MONOTONIC ns: it arrived in (since, until]. `mark` is what the receiver told
    before the sender's process began, because cumulative counts are differences. `only` keeps what
    carries an attribute; `flushed_ns` is when the sender was last told to send all it has.
    """

    scope: str
    mark: int = 0
    since_ns: int = 0
    until_ns: int | None = None
    only: tuple[str, str] | None = None
    instance: str = ""
    flushed_ns: int = 0


class Receiver(Protocol):
    """What takes the collectors' telemetry, and can be asked what arrived.

    `poll_seconds` is how often it is to be asked, while it is watched, what is new; 0 where it
    notes the arrival of everything itself. `keepers` are the components that keep what arrives, by
    kind of telemetry: the name and the title of each.
    """

    @property
    def url(self) -> str: ...
    @property
    def cgroups(self) -> Mapping[str, Path]: ...
    @property
    def poll_seconds(self) -> float: ...
    @property
    def keepers(self) -> Mapping[str, tuple[str, str]]: ...
    def check(self) -> None: ...
    def mark(self) -> int: ...
    def sender(self, name: str, trial: str) -> str: ...
    def read(self) -> dict[str, float]: ...
    def watch(
        self, parts: Sequence[tuple[Part, str]], seconds: float, complete: Callable[[], bool]
    ) -> None: ...
    def count(self, part: Part, signal: str, made: float) -> float: ...
    def ports(self, part: Part, signal: str, made: float) -> Mapping[int, float]: ...
    def data_latency(self, part: Part, kind: str) -> NDArray[np.float64]: ...
