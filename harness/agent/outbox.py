"""Spans and log records on their way out, kept while no receiver takes them; for `runtime`.

Metrics need no keeping: they are cumulative, so that the next export tells what this one could not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Protocol, TypeVar

from harness.agent.errors import RefusedError
from harness.agent.telemetry import Log, Span, Telemetry

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import Metric

    from harness.agent.container import Container

WAITING = 8192  # spans, and as many log records: some 6 MB of each while a receiver is away

T = TypeVar("T")


class Sends(Protocol):
    """What an Exporter does; AgentError where it was not acknowledged."""

    def send_metrics(
        self,
        metrics: Sequence[Metric],
        own: Sequence[Metric],
        contained: Mapping[Container, Sequence[Metric]],
    ) -> None:
        """Export metrics, the agent's `own` of itself, and those of containers."""
        ...

    def send_spans(self, spans: Sequence[Span]) -> None:
        """Export spans."""
        ...

    def send_logs(self, logs: Sequence[Log]) -> None:
        """Export log records."""
        ...


class Outbox:
    """What waits is sent again with what comes next; of more than `limit` the oldest are lost.

    It is used by one thread at a time; its counts may be read by others. `exported` counts what was
    acknowledged, `spans` those of it, `lost` what nobody will ever take.
    """

    def __init__(self, exporter: Sends, limit: int = WAITING) -> None:
        self._exporter, self._limit = exporter, limit
        self._spans, self._logs = deque[Span](), deque[Log]()
        self.exported = self.spans = self.lost = 0

    @property
    def waiting(self) -> int:
        """How many spans and log records no receiver took yet."""
        return len(self._spans) + len(self._logs)

    def send(self, telemetry: Telemetry, own: Sequence[Metric] = ()) -> None:
        """Send all that there is; AgentError if not all of it was acknowledged.

        `own` are the agent's metrics of itself. Whoever refuses one kind of telemetry for good may
        take the others; whoever does not answer is not asked again, since that takes seconds in
        which the kernel's buffers fill.
        """
        self._spans += telemetry.spans
        self._logs += telemetry.logs
        refused: RefusedError | None = None
        try:
            for step in (
                partial(self._send_metrics, telemetry, own),
                self._send_spans,
                self._send_logs,
            ):
                try:
                    step()
                except RefusedError as error:
                    refused = error
        finally:
            self.lost += _cut(self._spans, self._limit) + _cut(self._logs, self._limit)
        if refused is not None:
            raise refused

    def give_up(self) -> int:
        """Nothing is sent any more: how many are lost by that."""
        left = _cut(self._spans, 0) + _cut(self._logs, 0)
        self.lost += left
        return left

    def _send_metrics(self, telemetry: Telemetry, own: Sequence[Metric]) -> None:
        metrics, contained = telemetry.metrics, telemetry.contained
        if metrics or own or contained:
            self._exporter.send_metrics(metrics, own, contained)
            seen = chain(metrics, *contained.values())
            self.exported += sum(len(each.data.data_points) for each in seen)

    def _send_spans(self) -> None:
        taken = self._take(self._spans, self._exporter.send_spans)
        self.spans += taken
        self.exported += taken

    def _send_logs(self) -> None:
        self.exported += self._take(self._logs, self._exporter.send_logs)

    def _take(self, waiting: deque[T], send: Callable[[Sequence[T]], None]) -> int:
        """Send what waits, and let it go; how many were acknowledged."""
        batch = list(waiting)
        if not batch:
            return 0
        try:
            send(batch)
        except RefusedError:
            self.lost += len(batch)
            waiting.clear()
            raise
        waiting.clear()
        return len(batch)


def _cut(waiting: deque[T], limit: int) -> int:
    """Let the oldest go that are more than so many; how many they were."""
    over = max(0, len(waiting) - limit)
    for _ in range(over):
        waiting.popleft()
    return over
