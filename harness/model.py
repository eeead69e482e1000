"""The vocabulary: frozen dataclasses and the one Protocol that every other module speaks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BASELINE = "baseline"
FACTORIAL: Final = "factorial"  # the method, and the arm of trials that several arms share
IDLE_CPUS = "idle CPUs"  # the setting of a machine that an evaluation holds itself

TrialKind = Literal["switched", "metered", "saturated"]
Method = Literal["switch", "factorial", "twin", "block"]
TrialStatus = Literal["ok", "invalid", "failed", "skipped"]
StackKind = Literal["sink", "full"]
Arrivals = Literal["periodic", "poisson"]


@dataclass(frozen=True)
class Claim:
    """A published overhead figure, as its source states it, and when that was written."""

    text: str
    source: str
    date: str = ""


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

    `switch` turns them on and off every window; `factorial` does so with those of several arms in
    the same windows, each by a pattern of its own. `twin` drives two identical processes of which
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

    The arm of a trial that all factorial arms share is FACTORIAL.
    `switched` trials compare on with off by the arm's method; `metered` trials read the kernel's
    BPF statistics, `saturated` ones count what a closed loop gets answered, on and off.
    `attempt` counts the repetitions of a trial that broke a rule of validity.
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
    """A stretch of a trial; times are CLOCK_MONOTONIC nanoseconds at which meters were read.

    `states` are those of the factors of a factorial trial, the null factor's last; there
    `quadruple` is the cycle within which they are balanced, and `on` says that any collector is:
    it is no arm's state.
    """

    index: int
    quadruple: int
    on: bool
    start_ns: int
    end_ns: int
    states: tuple[bool, ...] = ()


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
    power at the level asked for) are in `unit`; `level` is the off value they are compared with.
    `p` is the two-sided probability of so large a difference by chance in these processes, `p_holm`
    the same after Holm's correction over arms and workloads, `noise` half the width of the A/A
    arm's interval, `mean` the effect on the mean of all windows where the estimate is that on the
    typical one, and `down_share` how many windows counted for less than half there; each is NaN
    where it is not defined.
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
    mean: float = math.nan
    down_share: float = math.nan


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


@dataclass(frozen=True)
class Posted:
    """Posts to the receiver of one sender that had the same outcome.

    It is `taken`; `repeated`: it had come before; `malformed`: it is not what its path says;
    `refused`; or `broken`: it never came whole, or got no answer. `sender` is what it calls itself,
    `instance` its service.instance.id, `said` the status and path of what was not taken.
    """

    outcome: str
    sender: str = ""
    instance: str = ""
    said: str = ""


class Receiver(Protocol):
    """What takes the collectors' telemetry, and can be asked what arrived.

    `poll_seconds` is how often it is to be asked, while it is watched, what is new; 0 where it
    notes the arrival of everything itself. `keepers` are the components that keep what arrives, by
    kind of telemetry: the name and the title of each. `profiles_url` is where profiles are kept
    that do not come by OTLP; empty if they are not.
    """

    @property
    def url(self) -> str: ...
    @property
    def profiles_url(self) -> str: ...
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
    def posted(self, mark: int) -> Mapping[Posted, int]: ...
    def data_latency(self, part: Part, kind: str) -> NDArray[np.float64]: ...
