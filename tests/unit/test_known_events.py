"""Probes beside the load and after it are counted as one."""

from __future__ import annotations

from harness.node import known_events
from harness.node.known_events import KnownEvents


def test_probes_of_both_parts_are_added_with_what_was_missing() -> None:
    loaded = KnownEvents(10, "/r/probe", 4, (("executions", "it ended with 1"),))
    both = loaded + KnownEvents(90, "/r/probe", 0, (("executions", "it ended with 2"),))
    assert (both.connections, both.executions, both.executable) == (100, 4, "/r/probe")
    assert both.why_none("executions") == "it ended with 1"
    assert both.why_none("connections") == ""
    assert (KnownEvents() + loaded) == loaded


def test_four_trials_make_enough_to_tell_99_percent() -> None:
    """All of n found shows 99 % beyond doubt if 0.99^n is below 2.5 %."""
    assert 0.99 ** (4 * (known_events.LOADED + known_events.ALONE)) < 0.025
    assert 0.95 ** (known_events.LOADED + known_events.ALONE) < 0.025
