"""The loop that every figure comes from, by a clock that only moves when it is told to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from harness.node.windows import alternate
from harness.plan import design
from harness.plan.experiment import pattern
from harness.wire.spec import Timing, WindowState

WINDOW, GUARD = 0.05, 0.006
TIMING = Timing(0.5, WINDOW, GUARD, 10.0, 2.0, 10.0, 2.0, 3.0, 30.0)


class Bench:
    """A clock, a switch that takes a while, and a meter that tells the time and who was on."""

    def __init__(self, switching: dict[int, float] | None = None) -> None:
        self.now, self.states, self.attended = 100.0, list[tuple[bool, ...]](), list[float]()
        self._switching, self._switched = switching or {}, 0
        self.reads: list[tuple[float, tuple[bool, ...]]] = []
        self.attending = 0.002  # seconds: it answers a ping

    def monotonic(self) -> float:
        return self.now

    def sleep_until(self, deadline: float) -> None:
        self.now = max(self.now, deadline)

    def to(self, states: Sequence[bool]) -> dict[str, float]:
        self.now += self._switching.get(self._switched, 0.001)
        self._switched += 1
        before = self.states[-1] if self.states else (False,) * len(states)
        self.states.append(tuple(states))
        changed = zip(("http", "flows"), states, before, strict=False)
        return {name: 0.0004 for name, now, then in changed if now != then}

    def off(self) -> None:
        self.states.append(())

    def read(self) -> tuple[int, dict[str, float]]:
        self.reads.append((self.now, self.states[-1]))
        return round(self.now * 1e9), {"cpu.workload": 2 * self.now}

    def attend(self) -> None:
        self.attended.append(self.now)
        self.now += self.attending

    def run(self, plan: Sequence[WindowState], cycle: int = 4) -> Any:
        switch: Any = self
        return alternate(plan, TIMING, switch, self.read, self.attend, self, cycle)


def _plan(states: Sequence[bool]) -> list[WindowState]:
    return [WindowState(on, (on, not on)) for on in states]


def test_every_window_is_metered_in_the_state_that_was_asked_for() -> None:
    states, bench = pattern(6, seed=3), Bench()
    rows = bench.run(_plan(states))
    assert [row.window.on for row in rows] == states
    assert [row.window.quadruple for row in rows] == [i // 4 for i in range(24)]
    assert bench.states == [(on, not on) for on in states] + [()]
    assert [state for _, state in bench.reads] == [(on, not on) for on in states for _ in "ab"]


def test_the_guard_time_after_a_switch_is_not_metered() -> None:
    bench = Bench()
    for index, row in enumerate(bench.run(_plan(pattern(4, 1)))):
        begin = 100.0 + index * WINDOW  # the first switch takes 1 ms, the others as well
        assert row.window.start_ns / 1e9 == pytest.approx(begin + 0.001 + GUARD)
        assert row.window.end_ns / 1e9 == pytest.approx(begin + WINDOW)
        assert row.meters["seconds"] == pytest.approx(WINDOW - GUARD - 0.001)
        assert row.meters["cpu.workload"] == pytest.approx(2 * row.meters["seconds"])
        assert row.meters["switch_seconds"] == pytest.approx(0.001)


def test_a_switch_that_takes_long_moves_the_windows_after_it() -> None:
    bench = Bench({5: 0.2})
    rows = bench.run(_plan(pattern(4, 1)))
    late = rows[5]
    assert late.meters["switch_seconds"] == pytest.approx(0.2)
    assert late.meters["seconds"] == pytest.approx((WINDOW - GUARD) / 2)  # half a window at least
    assert all(row.meters["seconds"] == pytest.approx(WINDOW - GUARD - 0.001) for row in rows[6:])
    starts = [row.window.start_ns for row in rows]
    assert starts == sorted(starts)
    assert all(a.window.end_ns <= b.window.start_ns for a, b in itertools.pairwise(rows))


def test_the_outside_is_asked_once_in_four_windows_and_only_in_the_guard_time() -> None:
    bench = Bench()
    rows = bench.run(_plan(pattern(5, 1)))
    assert len(bench.attended) == 5
    metered = [(row.window.start_ns / 1e9, row.window.end_ns / 1e9) for row in rows]
    for moment in bench.attended:
        assert not any(start < moment < end for start, end in metered)


def test_what_the_outside_takes_beyond_the_guard_time_moves_the_windows() -> None:
    bench = Bench()
    bench.attending = 0.2
    rows = bench.run(_plan(pattern(4, 1)))
    assert all(row.meters["seconds"] >= (WINDOW - GUARD) / 2 - 1e-9 for row in rows)
    edges = [ns for row in rows for ns in (row.window.start_ns, row.window.end_ns)]
    assert edges == sorted(edges)


def test_all_is_off_at_the_end_of_a_plan_of_nothing() -> None:
    bench = Bench()
    assert bench.run([]) == []
    assert bench.states == [()]


def test_the_windows_of_a_design_are_kept_as_it_drew_them() -> None:
    states, bench = design.states(3, 4, seed=5), Bench()
    rows = bench.run([WindowState(any(s[:2]), s[:2], s) for s in states], cycle=8)
    assert [row.window.states for row in rows] == states
    assert bench.states[:-1] == [s[:2] for s in states]
    assert [row.window.quadruple for row in rows] == [i // 8 for i in range(32)]
    for before, row in itertools.pairwise(rows):
        changed = zip(("http", "flows"), row.window.states, before.window.states, strict=False)
        switched = {f"switch_seconds[{name}]" for name, now, then in changed if now != then}
        assert {each for each in row.meters if "[" in each} == switched


def test_what_each_switch_took_is_kept_of_a_design_only() -> None:
    rows = Bench().run(_plan(pattern(4, 1)))
    assert not any("[" in meter for row in rows for meter in row.meters)
