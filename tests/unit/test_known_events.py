"""Probes beside the load and after it are counted as one."""

from __future__ import annotations

from harness.node import known_events
from harness.node.known_events import Known


def test_probes_of_both_parts_are_added_with_what_was_missing() -> None:
    both = Known(4, "/r/probe", "it ended with 1") + Known(0, "/r/probe", "it ended with 2")
    assert both == Known(4, "/r/probe", "it ended with 1")
    assert Known(10, "127.0.0.2") + Known(90, "127.0.0.2") == Known(100, "127.0.0.2")


def test_four_trials_make_enough_to_tell_99_percent() -> None:
    """All of n found shows 99 % beyond doubt if 0.99^n is below 2.5 %."""
    assert 0.99 ** (4 * (known_events.LOADED + known_events.ALONE)) < 0.025
    assert 0.95 ** (known_events.LOADED + known_events.ALONE) < 0.025
