"""A receiver that answers as it is told, and what is sent to it; for the tests of the outbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.agent.errors import AgentError, LaterError, RefusedError, UnansweredError
from harness.agent.origin import Origin
from harness.agent.outbox import Outbox
from harness.agent.telemetry import Log, Point, Span, Telemetry, counter

Answer = Callable[[], int]


def away() -> int:
    raise UnansweredError("It did not arrive.")


def busy() -> int:
    raise LaterError("It is busy.", "", "", 20.0)


def failing() -> int:
    raise AgentError("It answered with 503.")


def refusing() -> int:
    raise RefusedError("It is refused for good.")


class Scripted:
    """A receiver that answers as it is told; `took` holds the names of what it took.

    Signals in `apart` go to one of their own.
    """

    def __init__(self) -> None:
        self.took: list[str] = []
        self.asked: list[str] = []
        self.answers: dict[str, Answer] = {}
        self.apart: set[str] = set()

    def receiver(self, signal: str) -> str:
        return signal if signal in self.apart else "the usual one"

    def _answer(self, kind: str, names: Sequence[str]) -> int:
        self.asked.append(kind)
        rejected = self.answers.get(kind, lambda: 0)()
        self.took += names
        return rejected

    def send_metrics(self, batch: Sequence[tuple[Origin, Any]]) -> int:
        seen = [metric.name for _, each in batch for metric in (*each.metrics, *each.own)]
        return self._answer("metrics", seen)

    def send_spans(self, batch: Sequence[tuple[Origin, Any]]) -> int:
        return self._answer("spans", [each.name for _, some in batch for each in some])

    def send_logs(self, batch: Sequence[tuple[Origin, Sequence[Log]]]) -> int:
        return self._answer("logs", [each.event_name for _, some in batch for each in some])

    def send_profiles(self, batch: Sequence[tuple[Origin, Sequence[Any]]]) -> int:
        return self._answer("profiles", [each.name for _, some in batch for each in some])


class Clock:
    """Time as a test has it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def spans(*names: str) -> Telemetry:
    return Telemetry(spans=[Span(name, 0, 1, {}) for name in names])


class Drained:
    """Profiles of one drain, of so many containers."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self._number = name, number

    def __len__(self) -> int:
        return self._number

    def encoded(self, _: Origin) -> bytes:
        return self.name.encode()


def profiles(name: str, number: int) -> Telemetry:
    return Telemetry(profiles=[Drained(name, number)])


def logs(*names: str) -> Telemetry:
    return Telemetry(logs=[Log(name, 0, {}) for name in names])


POINTS = [Point({}, 1), Point({"a": 1}, 2)]
METRIC = counter("m", "1", POINTS)
MINE, OTHER = (Origin(name, "shop", lambda: None) for name in ("http", "guard"))


def told(outbox: Outbox, origin: Origin = MINE) -> tuple[int, int, int]:
    tally = outbox.tally(origin)
    return tally.waiting, tally.lost, tally.exported
