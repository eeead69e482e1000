"""How many samples each container and executable has, and what is told of them; for `profile`."""

from __future__ import annotations

import functools
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from harness.agent.container import Container
from harness.agent.origin import of_container
from harness.agent.telemetry import Attributes, Metric, Point, counter

SAMPLE = struct.Struct("=IIQ3QQ")
"""struct sampled of profile.bpf.c; its end, the cgroup, is missing where none is told."""
UNCONTAINED_BYTES = SAMPLE.size - 8
"""Of it without its end."""
_MOST_EXECUTABLES = 64  # of a container, that are told apart
_MOST_CONTAINERS = 1024  # whose labels are kept
_OVERFLOW: Attributes = {"otel.metric.overflow": True}


class Samples:
    """Counts that only grow, of each container while it lasts."""

    def __init__(self) -> None:
        self._by_container: dict[Container | None, Counter[str]] = {}

    def add(self, container: Container | None, executable: str, number: int) -> None:
        """Count samples of an executable; empty is one that is not known."""
        own = self._by_container.setdefault(container, Counter())
        if executable not in own and len(own) >= _MOST_EXECUTABLES:
            executable = ""
        own[executable] += number

    def forget(
        self, gone: Iterable[Container | None], lasts: Callable[[Container | None], bool]
    ) -> None:
        """Drop those of which no cgroup is left: containers come and go."""
        for each in {each for each in gone if not lasts(each)}:
            self._by_container.pop(each, None)

    def metrics(self) -> tuple[list[Metric], dict[Container, list[Metric]]]:
        """What is of no container, and what is of each."""
        told = {each: [_metric(own)] for each, own in self._by_container.items()}
        return told.pop(None, []), {each: own for each, own in told.items() if each is not None}


@functools.lru_cache(_MOST_CONTAINERS)
def labels(container: Container | None) -> tuple[tuple[str, str], ...]:
    """What a sample in a pprof file says of its container: what other telemetry's resource does."""
    found: Mapping[str, str | int] = of_container(container) if container else {}
    return tuple((name, str(value)) for name, value in found.items())


def _metric(own: Counter[str]) -> Metric:
    """One series an executable: processes come and go, and would make ever more."""
    points = [
        Point({"process.executable.name": name} if name else _OVERFLOW, number)
        for name, number in own.items()
    ]
    return counter("profile.samples", "{sample}", points, "CPU samples taken.")
