"""Saturated trials: of which arms, and their windows; for `experiment`, `trials`, the analysis.

A closed loop keeps many requests under way, which a window's end finds half done. Windows are
therefore longer than those at a rate, and so is what of each is not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.model import FACTORIAL, Arm
from harness.plan import design

if TYPE_CHECKING:
    from harness.plan.experiment import Experiment

WINDOW_SECONDS = 0.1
GUARD_SECONDS = 0.02  # 16 connections at 800 answers a second: Little's law
LEAST_GROUPS = 4  # quadruples, or a design's cycles


def window_seconds(e: Experiment) -> float:
    """The length of a window."""
    return max(WINDOW_SECONDS, e.window_seconds)


def guard_seconds(e: Experiment) -> float:
    """The start of each window that is not counted."""
    return max(GUARD_SECONDS, e.guard_seconds)


def arms(e: Experiment) -> list[Arm]:
    """Whose saturated trials a block has: those that are switched, the A/A among them."""
    if e.saturated_seconds <= 0:
        return []
    return [arm for arm in e.trial_arms if arm.method in ("switch", FACTORIAL)]


def quadruples(e: Experiment) -> int:
    """Of windows in one trial of a switched arm."""
    return _windows(e) // 4


def cycles(e: Experiment) -> int:
    """Whole cycles of windows in one trial that factorial arms share."""
    return _windows(e) // design.cycle(len(design.factors(e)))


def least(e: Experiment) -> float:
    """Seconds that a window must have lasted: nearly half of what it was to, as at a rate."""
    return 0.45 * (window_seconds(e) - guard_seconds(e))


def problems(e: Experiment) -> Iterator[str]:
    """What is wrong with its key."""
    if e.saturated_seconds < 0:
        yield "saturated_seconds must not be negative."
    if not arms(e):
        return
    if quadruples(e) < LEAST_GROUPS:
        yield f"saturated_seconds must hold at least {LEAST_GROUPS} quadruples of windows."
    elif e.has_shared and cycles(e) < LEAST_GROUPS:
        length = design.cycle(len(design.factors(e)))
        yield (
            f"saturated_seconds must hold at least {LEAST_GROUPS} cycles of {length} windows of "
            f"{window_seconds(e):g} s: {LEAST_GROUPS * length * window_seconds(e):g} s."
        )


def _windows(e: Experiment) -> int:
    return int(e.saturated_seconds / window_seconds(e) + 1e-9)
