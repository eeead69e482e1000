"""A collector that speaks no protocol of ours: it is there or not; `placed_agent`, `in_process`."""

from __future__ import annotations

import time
from typing import Any

from harness.errors import CollectorError
from harness.node.agent_process import AgentProcess


class ForeignAgent(AgentProcess):
    """One that is told nothing: it works from when it is ready until it is removed."""

    @property
    def counts(self) -> bool:
        """It says nothing to us."""
        return False

    def send_switch(self, on: bool) -> None:
        """Nothing: it is there."""

    def receive_switch(self) -> dict[str, Any]:
        """It took no time."""
        return {"at_ns": time.monotonic_ns()}

    def switch(self, on: bool) -> dict[str, Any]:
        """Nothing: it is there; no time is told."""
        return self.receive_switch()

    def stats(self) -> dict[str, Any]:
        """It counts nothing for us."""
        return {}

    def flush(self) -> dict[str, Any]:
        """It exports by its own clock."""
        return {}

    def remove(self) -> dict[str, Any]:
        """End it, or have it moved away."""
        self.kill()
        return {}

    def _uncountable(self, error: ValueError) -> CollectorError:
        """What it says where its definition looks for a number is none."""
        return CollectorError(
            f"What collector {self.name!r} saw cannot be counted: {error}.",
            "The `events` of its definition finds that between its brackets.",
            r"Let them hold digits alone, as (\d+) does.",
            collector=self.name,
        )
