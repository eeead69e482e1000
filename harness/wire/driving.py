"""What a measured node asks of the controller: load from another node, collectors of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.model import Arrivals
from harness.wire.spec import Locustfile
from harness.wire.subject import Option


@dataclass(frozen=True)
class Begin:
    """Start a driver of the service at `url`, or several; `name` is that of its log."""

    name: str
    url: str
    locustfile: Locustfile | None
    connections: int
    seed: int
    arrivals: Arrivals
    login: str = field(default="", repr=False)
    workers: int = 1


@dataclass(frozen=True)
class FindCapacity:
    """Drive as fast as the answers come, for so long."""

    seconds: float


@dataclass(frozen=True)
class Start:
    """Begin a phase: for ever, or of so many `requests`; a closed loop without a `rate`."""

    rate: float | None
    requests: int | None


@dataclass(frozen=True)
class Finish:
    """End the phase, one of a number of requests once they were made; these come back."""

    is_counted: bool


@dataclass(frozen=True)
class End:
    """End the driver."""


@dataclass(frozen=True)
class Place:
    """Have a cluster's DaemonSet, NAMESPACE/NAME, run on the measured node."""

    daemonset: str


@dataclass(frozen=True)
class Displace:
    """Have it run there no more."""

    daemonset: str


@dataclass(frozen=True)
class Turn:
    """Have an option of a DaemonSet's pod on the measured node on or off."""

    daemonset: str
    option: Option
    on: bool


@dataclass(frozen=True)
class Look:
    """See what an option of it counted; changes nothing."""

    daemonset: str
    option: Option


OfCluster = Place | Displace | Turn | Look
"""What only the target can do, which knows the cluster."""

Does = Begin | FindCapacity | Start | Finish | End | OfCluster
"""What may be asked for."""


@dataclass(frozen=True)
class Call:
    """One of them."""

    does: Does


Answer = tuple[Mapping[str, Any], bytes]
"""What was found, and the file of requests of a phase that ended.

Of `Place` it is `containers`: the ids of what runs there by then; of `Turn` and `Look` those of the
pod, and whether the option `was` on, or what `seen` printed.
"""

Ask = Callable[[Call], Answer]


@dataclass(frozen=True)
class Course:
    """How far the load's CLOCK_MONOTONIC is ahead of the measured node's while a phase lasts.

    By `ahead_ns` at its own `at_ns`, and evenly by `parted_ns` more within `lasts_ns`; both to
    within `uncertainty_ns`.
    """

    at_ns: int
    ahead_ns: int
    parted_ns: int
    lasts_ns: int
    uncertainty_ns: int
