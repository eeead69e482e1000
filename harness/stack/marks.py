"""How long a record takes until it can be queried, while the stack is loaded; for `ramp_step`."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import ComponentError
from harness.stack import client, readback
from harness.stack.config import Stack
from harness.wire.telemetry import RECORDS

PERIOD_SECONDS = 1.0
POLL_SECONDS = 0.1  # the resolution of a lag; polls are work for the backend, too


@dataclass
class Mark:
    """One marked record: when it was sent (monotonic), and the seconds until a query found it.

    `refused` if the Collector did not acknowledge it; then it is not looked for.
    """

    name: str
    sent: float
    lag: float | None = None
    refused: bool = False


class Marks:
    """Sends a marked record each second, and looks for the oldest that was not found yet.

    What came after it was sent after it: the queue between is one.
    """

    def __init__(
        self,
        send: Callable[[str], None],
        found: Callable[[str], bool],
        period: float = PERIOD_SECONDS,
        poll: float = POLL_SECONDS,
    ) -> None:
        self._send, self._found, self._period, self._poll = send, found, period, poll
        self._marks: list[Mark] = []
        self._lock = threading.Lock()
        self._sending, self._searching = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []

    @classmethod
    def of(cls, stack: Stack, signal: str) -> Marks:
        """Marks of a signal through the real stack."""
        otlp = RECORDS[signal]
        return cls(
            lambda mark: readback.send(stack, otlp, mark),
            lambda mark: readback.found(stack, otlp, mark),
        )

    def start(self) -> None:
        """Begin to send and to search."""
        for event in (self._sending, self._searching):
            event.set()
        self._threads = [
            threading.Thread(target=target, daemon=True) for target in (self._post, self._search)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, limit_seconds: float) -> list[Mark]:
        """Send no more, search on for what is missing, at most so long; all marks in order."""
        self._sending.clear()
        deadline = time.monotonic() + limit_seconds
        self._threads[0].join(limit_seconds)
        while self._missing() is not None and time.monotonic() < deadline:
            time.sleep(self._poll)
        self._searching.clear()
        self._threads[1].join(2 * self._period)
        with self._lock:
            return list(self._marks)

    def oldest_seconds(self) -> float:
        """How long the oldest record that was not found waits by now; 0 if none does."""
        missing = self._missing()
        return time.monotonic() - missing.sent if missing else 0.0

    def _missing(self) -> Mark | None:
        with self._lock:
            return next((m for m in self._marks if m.lag is None and not m.refused), None)

    def _post(self) -> None:
        due = time.monotonic()
        while self._sending.is_set():
            mark = Mark(secrets.token_hex(16), time.monotonic())
            with self._lock:
                self._marks.append(mark)
            try:
                self._send(mark.name)
            except (ComponentError, *client.FAILURES):
                mark.refused = True
            due = max(due + self._period, time.monotonic())
            while self._sending.is_set() and (left := due - time.monotonic()) > 0:
                time.sleep(min(left, self._poll))

    def _search(self) -> None:
        while self._searching.is_set():
            mark = self._missing()
            if mark is not None and self._is_there(mark):
                mark.lag = time.monotonic() - mark.sent
            else:
                time.sleep(self._poll)

    def _is_there(self, mark: Mark) -> bool:
        try:
            return self._found(mark.name)
        except client.FAILURES:
            return False
