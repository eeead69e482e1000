"""The parts of a trial by `block`; `trials`, `experiment`, `check`, `choice`, `pairs` call it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from harness.collectors import subject
from harness.collectors.spec import is_placed
from harness.model import Arm

PARTS = 5
HALVES = 2  # the trials of earlier versions
INSTALL_SECONDS = 2.3  # as bpftrace's: 1.3 to load, and one until no program follows
OPTION_SECONDS = 8.0  # as Hubble's turning, until that has taken effect: on kind, 14 trials
ASKING_SECONDS = 6.4  # and what it saw being asked
TIMES = 3  # that it comes and goes: in parts of the trial, and for its steady part
MOVE_SECONDS = 15.0  # a DaemonSet each time, to come and to go: an allowance that nobody measured


def states(first: bool) -> list[bool]:
    """Whether the collectors are there, part by part; a node has the ends last half as long.

    So each state has half of the time, and the same time in the middle of it: whatever drifts
    straight on over a trial is the same in both.
    """
    return [first == (part % 2 == 0) for part in range(PARTS)]


def are_whole(told: Sequence[bool]) -> bool:
    """Whether these are the states of a trial, of this version or before: each unlike the last."""
    return len(told) in (HALVES, PARTS) and all(a != b for a, b in itertools.pairwise(told))


def turning_seconds(arm: Arm, settle: float) -> float:
    """How much longer a trial of this arm takes than one in which nothing comes and goes."""
    if arm.method != "block":
        return 0.0
    settling = (PARTS - 1) * settle
    if any(map(subject.is_option, arm.collectors)):
        return settling + TIMES * (2 * OPTION_SECONDS + ASKING_SECONDS)
    if is_moved(arm):
        return settling + TIMES * MOVE_SECONDS
    return settling + 2 * INSTALL_SECONDS * bool(arm.collectors)


def moving_seconds(arm: Arm) -> float:
    """The same of a metered trial, in which a DaemonSet comes and goes once."""
    return MOVE_SECONDS * is_moved(arm)


def is_moved(arm: Arm) -> bool:
    """Whether a collector of it is a DaemonSet, which is moved to the measured node and away."""
    return any(is_placed(each) and not subject.is_option(each) for each in arm.collectors)
