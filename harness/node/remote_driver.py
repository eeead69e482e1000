"""The load driver on another node, asked for by way of the controller; for `block`."""

from __future__ import annotations

from pathlib import Path

from harness.errors import LoadError
from harness.load import record
from harness.node.load_driver import Capacity, LoadSummary
from harness.wire import codec
from harness.wire.driving import Ask, Begin, Call, Course, FindCapacity, Finish, Start
from harness.wire.files import write_whole
from harness.wire.spec import BlockSpec


class RemoteDriver:
    """A `LoadDriver` whose requests are told by this node's clock; the controller ends it."""

    def __init__(self, ask: Ask, spec: BlockSpec, url: str) -> None:
        self._ask = ask
        begin = Begin(
            f"{spec.name}-load", url, spec.locustfile, spec.connections, spec.driver_seed,
            spec.arrivals, spec.login, spec.load_workers,
        )  # fmt: skip
        ask(Call(begin))

    def capacity(self, seconds: float) -> Capacity:
        """Drive as fast as the answers come, for that long."""
        found, _ = self._ask(Call(FindCapacity(seconds)))
        return Capacity(**found)

    def start(self, rate: float | None, requests: int | None = None) -> int:
        """Begin `rate` arrivals a second, or a closed loop; returns when (ns)."""
        found, _ = self._ask(Call(Start(rate, requests)))
        return int(found["at_ns"])

    def aim(self, twin: bool) -> int:
        """LoadError: that would be told over a network at each window's edge."""
        raise LoadError(
            "A load driver on another node has one service.",
            "To aim at a twin it would have to be told so at the edge of each window.",
            "Choose the method switch or block, or let the load run beside the service.",
        )

    def finish(self, path: Path) -> LoadSummary:
        """End the phase and write its requests to `path`, see record.read."""
        return self._end(path, Finish(is_counted=False))

    def wait(self, path: Path) -> LoadSummary:
        """Wait until the phase's `requests` were made, then as finish."""
        return self._end(path, Finish(is_counted=True))

    def stop(self) -> None:
        """Nothing: the controller ends it with the block, also if this node is gone by then."""

    def _end(self, path: Path, finish: Finish) -> LoadSummary:
        found, requests = self._ask(Call(finish))
        write_whole(path, requests)
        course = codec.load(Course, found["course"])
        record.shift(path, course)
        clock = {
            "ahead_ns": course.ahead_ns,
            "parted_ns": course.parted_ns,
            "uncertainty_ns": course.uncertainty_ns,
        }
        return LoadSummary(**{**found["summary"], "clock": clock})
