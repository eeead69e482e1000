"""Whom a stack asks: the components that keep its signals, and its Collector; for `full`."""

from __future__ import annotations

from typing import cast

from harness.errors import DEFECT, ComponentError
from harness.stack import counters
from harness.stack.config import PROGRAMS, Stack
from harness.stack.questions import Keeper, Logs, Metrics, Traces

TAKEN = {"spans": "traces", "metrics": "metrics", "logs": "logs"}


def keeper(stack: Stack, signal: str) -> Keeper:
    """The component that keeps this signal (traces, metrics, logs), to be asked."""
    name = stack.keeps[signal]
    store = PROGRAMS[name].store
    if store is None:
        raise ComponentError(f"{name} keeps no {signal}.", next_step=DEFECT)
    return store.ask(stack.url(name))


class Backends:
    """The keepers of a stack by signal; each question may raise ComponentError."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.traces = cast(Traces, keeper(stack, "traces"))
        self.metrics = cast(Metrics, keeper(stack, "metrics"))
        self.logs = cast(Logs, keeper(stack, "logs"))

    def taken(self) -> dict[str, float]:
        """How many spans, metric points and log records they took from the Collector."""
        return {
            kind: counters.of_collector(self._stack, signal)["sent"]
            for kind, signal in TAKEN.items()
        }
