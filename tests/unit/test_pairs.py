"""Pairs by method against a simulated machine of which the truth is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from harness.analysis import compare, pairs
from harness.analysis.ranks import hodges_lehmann
from harness.model import Method, Window, WindowRow
from harness.plan.experiment import pattern

WINDOW = 0.05
RATE = 1000.0
LEVEL = 40.0  # us a request
CLIENT = 25.0
ALL: tuple[Method, ...] = ("switch", "twin", "block")


def machine(
    seed: int, effect: float, *, unlike: float = 0.0, idle: float = 0.0, quadruples: int = 150
) -> list[WindowRow]:
    """Windows of two twins on a machine that drifts: the one in scope pays `effect` us a request.

    The plain one is `unlike` us dearer; each uses `idle` of a CPU whether it is driven or not.
    """
    random = np.random.default_rng(seed)
    rows = []
    for i, on in enumerate(pattern(quadruples, seed)):
        drift = 1 + 0.2 * np.sin(i * WINDOW / 5 + seed) + 0.05 * random.standard_t(4)
        count = random.poisson(RATE * WINDOW)
        served, plain = (count, 0) if on else (0, count)
        meters = {
            "requests": float(served), "requests.twin": float(plain),
            "cpu.workload": 1e-6 * served * (LEVEL * drift + effect) + idle * WINDOW,
            "cpu.twin": 1e-6 * plain * (LEVEL * drift + unlike) + idle * WINDOW,
            "cpu.client": 1e-6 * count * (CLIENT * drift + 0.5 * effect * on),
            "cpu.agent": 0.002,
        }  # fmt: skip
        meters["cpu.host"] = sum(v for k, v in meters.items() if k.startswith("cpu."))
        start = i * int(WINDOW * 1e9)
        rows.append(WindowRow(Window(i, i // 4, on, start, start + int(WINDOW * 1e9)), meters))
    return rows


def halves(seed: int, effect: float, installed_first: bool) -> list[WindowRow]:
    """Two halves of a trial, 10 s each."""
    random = np.random.default_rng(seed)
    rows = []
    for i, on in enumerate((installed_first, not installed_first)):
        n = RATE * 10
        cpu = 1e-6 * n * (LEVEL * (1 + 0.01 * random.standard_normal()) + effect * on)
        window = Window(i, 0, on, i * 10**10, (i + 1) * 10**10)
        rows.append(WindowRow(window, {"requests": n, "cpu.workload": cpu}))
    return rows


def test_twins_give_back_a_known_effect() -> None:
    sample = pairs.pairs(machine(1, effect=2.0), "twin", ("cpu.workload",), block=3)
    found = hodges_lehmann(sample.differences)
    assert found.n == 150
    assert found.low < 2.0 < found.high
    assert found.high - found.low < 2.0
    assert set(sample.block) == {3}


def test_equal_twins_differ_by_nothing_as_often_as_the_intervals_say() -> None:
    missed = 0
    for seed in range(200):
        rows = machine(seed, effect=0.0, idle=0.1, quadruples=40)
        found = hodges_lehmann(pairs.pairs(rows, "twin", ("cpu.workload",)).differences)
        missed += not found.low <= 0.0 <= found.high
    assert 1 <= missed <= 20  # 5 % of 200, give or take


def test_what_twins_do_by_themselves_is_not_an_effect() -> None:
    """One twin's timers run on while the other is driven: summed over whole quadruples, both pay.

    On windows against off windows of one process would take its idle time for a cost.
    """
    busy = machine(2, effect=0.0, idle=0.2)
    found = hodges_lehmann(pairs.pairs(busy, "twin", ("cpu.workload",)).differences)
    assert found.low < 0.0 < found.high
    sample = pairs.pairs(busy, "twin", ("cpu.workload",))
    idle_us = 2 * 0.2 / RATE * 1e6  # all four windows' over the requests of two
    assert np.median(sample.off) == pytest.approx(LEVEL + idle_us, rel=0.1)


def test_the_luck_of_a_process_cancels_when_the_roles_swap() -> None:
    even = pairs.pairs(machine(3, effect=2.0, unlike=3.0), "twin", ("cpu.workload",), block=0)
    odd_rows = machine(4, effect=2.0 + 3.0)  # the dearer process is in scope now
    odd = pairs.pairs(odd_rows, "twin", ("cpu.workload",), block=1)
    found = [hodges_lehmann(each.differences).estimate for each in (even, odd)]
    assert found[0] == pytest.approx(-1.0, abs=1.0)
    assert np.mean(found) == pytest.approx(2.0, abs=0.8)


def test_a_meter_of_both_twins_goes_to_the_one_that_was_driven() -> None:
    rows = machine(5, effect=4.0)
    client = pairs.pairs(rows, "twin", ("cpu.client",))
    found = hodges_lehmann(client.differences)
    assert found.low < 2.0 < found.high
    assert np.median(client.off) == pytest.approx(CLIENT, rel=0.1)
    context = pairs.pairs(rows, "twin", ("cpu.workload", "cpu.client"))
    alone = pairs.pairs(rows, "twin", ("cpu.workload",))
    assert context.differences == pytest.approx(client.differences + alone.differences)
    host = pairs.pairs(rows, "twin", ("cpu.host",), less=("cpu.agent",))
    assert np.median(host.off) == pytest.approx(LEVEL + CLIENT, rel=0.1)
    found = hodges_lehmann(host.differences)
    assert found.low < 6.0 < found.high


def test_what_both_twins_pay_is_taken_off_the_hosts_cpu() -> None:
    """The one that is not driven is the host's too: what is left of nothing unexplained is none."""
    rows = machine(5, effect=4.0, idle=0.05)
    known = ("cpu.workload", "cpu.client", "cpu.agent")
    left = pairs.pairs(rows, "twin", ("cpu.host",), less=known)
    assert len(left.on) == 150
    assert left.differences == pytest.approx(np.zeros(150), abs=1e-6)


def test_halves_are_one_pair_a_trial() -> None:
    trials = [
        pairs.pairs(halves(b, 2.0, b % 2 == 0), "block", ("cpu.workload",), block=b)
        for b in range(12)
    ]
    assert all(len(trial.on) == 1 for trial in trials)
    sample = compare.join(trials)
    found = hodges_lehmann(sample.differences)
    assert found.n == 12
    assert found.low < 2.0 < found.high
    assert np.median(sample.off) == pytest.approx(LEVEL, rel=0.02)
    assert set(sample.on_requests) == {RATE * 10}


def test_switched_windows_are_compared_as_ever() -> None:
    rows = [replace(row, meters={**row.meters, "requests": 50.0}) for row in machine(6, effect=1.0)]
    mine = pairs.pairs(rows, "switch", ("cpu.client",), ("cpu.agent",), WINDOW / 2, 7)
    theirs = compare.quadruples(rows, ("cpu.client",), ("cpu.agent",), WINDOW / 2, 7)
    assert mine.differences.tolist() == theirs.differences.tolist()
    assert mine.block.tolist() == theirs.block.tolist()


def _without(meter: str) -> Callable[[WindowRow], WindowRow]:
    return lambda row: replace(row, meters={k: v for k, v in row.meters.items() if k != meter})


def _short(row: WindowRow) -> WindowRow:
    return replace(row, window=replace(row.window, end_ns=row.window.start_ns + 1))


@pytest.mark.parametrize(
    "spoil",
    [_without("cpu.workload"), _without("cpu.twin"), _without("requests.twin"), _short],
    ids=["no CPU", "no twin", "no requests", "too short"],
)
def test_quadruples_of_twins_that_are_not_whole_are_left_out(
    spoil: Callable[[WindowRow], WindowRow],
) -> None:
    rows = machine(8, effect=0.0, quadruples=10)
    rows[5] = spoil(rows[5])
    del rows[-1]
    assert len(pairs.pairs(rows, "twin", ("cpu.workload",), (), WINDOW / 2).on) == 8


def test_quadruples_without_requests_to_a_twin_are_left_out() -> None:
    rows = machine(9, effect=0.0, quadruples=10)
    idle = [replace(row, meters={**row.meters, "requests.twin": 0.0}) for row in rows[:4]]
    assert len(pairs.pairs(idle + rows[4:], "twin", ("cpu.workload",)).on) == 9


def test_half_a_trial_is_no_pair() -> None:
    first, second = halves(1, 0.0, True)
    for broken in ([first], [first, first], [first, _without("requests")(second)]):
        assert len(pairs.pairs(broken, "block", ("cpu.workload",)).on) == 0
    assert len(pairs.pairs([first, _short(second)], "block", ("cpu.workload",), (), 1.0).on) == 0


@pytest.mark.parametrize("method", ALL)
def test_nothing_is_no_pairs(method: Method) -> None:
    sample = pairs.pairs([], method, ("cpu.workload",))
    assert len(sample.on) == len(sample.off) == len(sample.block) == 0
    assert compare.join([sample, sample]).differences.tolist() == []
