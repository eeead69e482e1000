"""A collector is drained by the clock, and at once when a ring buffer wakes its reader."""

from __future__ import annotations

import os
import queue
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from types import SimpleNamespace

import pytest

from harness.agent import drainer
from harness.agent.drainer import Drainer, turn
from tests.waiting import PATIENCE_SECONDS

NEVER = 3600.0


@pytest.fixture
def ring() -> Iterator[int]:
    """What is read by nobody, and wakes with each write: as a ring buffer that a program fills."""
    ring = os.eventfd(0)
    yield ring
    os.close(ring)


@pytest.fixture
def drain() -> Iterator[Callable[..., queue.Queue[bool]]]:
    """Start a Drainer; what its `collect` is told comes out of a queue."""
    with ExitStack() as stack:

        def start(*rings: int, drain: float, interval: float) -> queue.Queue[bool]:
            told: queue.Queue[bool] = queue.Queue()
            drainer = Drainer("it", rings, lambda: None, told.put, drain, interval)
            drainer.start()
            stack.enter_context(closing(drainer))
            return told

        yield start


def test_by_the_clock_with_metrics_when_they_are_due(
    drain: Callable[..., queue.Queue[bool]],
) -> None:
    told = drain(drain=0.01, interval=NEVER)
    assert not any(told.get(timeout=PATIENCE_SECONDS) for _ in range(5))
    told = drain(drain=0.01, interval=0.0)
    assert all(told.get(timeout=PATIENCE_SECONDS) for _ in range(5))


def test_at_once_for_each_time_that_a_ring_wakes(
    drain: Callable[..., queue.Queue[bool]], ring: int
) -> None:
    told = drain(ring, drain=NEVER, interval=NEVER)
    for _ in range(3):
        os.eventfd_write(ring, 1)
        assert told.get(timeout=PATIENCE_SECONDS) is False
    assert told.empty()  # what waits there, unread, does not keep it busy


def test_metrics_come_in_time_while_a_ring_wakes_it_all_the_time(
    drain: Callable[..., queue.Queue[bool]], ring: int
) -> None:
    told = drain(ring, drain=NEVER, interval=0.05)
    while True:
        os.eventfd_write(ring, 1)
        if told.get(timeout=PATIENCE_SECONDS):
            break


def test_it_follows_its_cgroup_meanwhile(ring: int) -> None:
    followed: queue.Queue[None] = queue.Queue()
    with closing(
        Drainer("it", [ring], lambda: followed.put(None), lambda _: None, NEVER, NEVER)
    ) as drainer:
        drainer.start()
        followed.get(timeout=PATIENCE_SECONDS)


@pytest.mark.parametrize("seconds", [0.01, 1.0, 3.0, NEVER])
def test_all_of_a_process_take_turns_at_the_same_moments(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    chance = random.Random(seconds)
    for _ in range(1000):
        now = drainer._BEGAN + chance.uniform(0, 10 * seconds)
        monkeypatch.setattr(drainer, "time", SimpleNamespace(monotonic=lambda now=now: now))
        found = turn(seconds)
        assert now < found <= now + seconds + 1e-6
        turns = (found - drainer._BEGAN) / seconds
        assert abs(turns - round(turns)) < 1e-6
