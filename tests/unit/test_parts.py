"""Five parts of a trial by `block`: a straight drift cancels, and how much a trial errs by."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from harness.analysis import pairs, ranks, stretches
from harness.cli import choice
from harness.model import Arm, Window, WindowRow
from harness.plan import parts
from tests.unit import synthetic

STEP = 0.25  # s
FIVE, TWO = (3.0, 6.0, 6.0, 6.0, 3.0), (12.0, 12.0)
COMES, GOES = 5.0, 2.0  # s until the next part is metered: more than the machine drifts by in one
RATE = 100.0
LEVEL, EFFECT = 100.0, 2.0  # us a request
SLOPE = 0.5  # us a request, by the second
NOISE, LAG = 4.0, 0.9  # standard deviation (us), and correlation of one step with the next
Array = NDArray[np.float64]


def edges(
    lengths: Sequence[float], states: Sequence[bool], apart: float = 1.0
) -> list[tuple[float, float]]:
    """When each part begins and ends: what is turned between two of them takes its time."""
    found, start = [], 0.0
    for (seconds, on), before in zip(
        zip(lengths, states, strict=True), [None, *states], strict=False
    ):
        start += 0.0 if before is None else apart * (COMES if on else GOES)
        found.append((start, start + seconds))
        start += seconds
    return found


def trial(
    lengths: Sequence[float], states: Sequence[bool], noise: Array, slope: float
) -> list[WindowRow]:
    """The windows of one, on a machine whose cost of a request is `noise` (steps,) by the step."""
    rows = []
    for index, (on, (start, end)) in enumerate(zip(states, edges(lengths, states), strict=True)):
        us = LEVEL + EFFECT * on + slope * (start + end) / 2
        us += float(noise[round(start / STEP) : round(end / STEP)].mean())
        requests = RATE * (end - start)
        window = Window(index, 0, on, round(1e9 * start), round(1e9 * end))
        rows.append(WindowRow(window, {"cpu.workload": 1e-6 * us * requests, "requests": requests}))
    return rows


def autoregression(draw: np.random.Generator, trials: int) -> Array:
    """Noise of the first order, (trials, steps), as long as the longest trial."""
    steps = round((sum(FIVE) + 2 * COMES + 2 * GOES) / STEP) + 1
    shocks = NOISE * math.sqrt(1 - LAG**2) * draw.standard_normal((trials, steps))
    shocks[:, 0] = NOISE * draw.standard_normal(trials)
    found: Array = lfilter([1.0], [1.0, -LAG], shocks, axis=1)
    return found


def standard_error(lengths: Sequence[float], states: Sequence[bool], apart: float = 1.0) -> float:
    """Of one trial, by w' C w: C of an autoregression, w of the least squares in matrices.

    Box, Jenkins, Reinsel and Ljung, Time Series Analysis, 5th ed., 3.2.3; Seber and Lee 2003, 3.10.
    """
    at = edges(lengths, states, apart)
    means = np.zeros((len(at), round(at[-1][1] / STEP)))
    for part, (start, end) in enumerate(at):
        means[part, round(start / STEP) : round(end / STEP)] = STEP / (end - start)
    steps = np.arange(means.shape[1])
    between = NOISE**2 * LAG ** np.abs(steps[:, None] - steps[None, :])
    columns = [np.ones(len(at)), np.array(states, dtype=float)]
    if len(at) > 2:
        columns.append(np.array([(start + end) / 2 for start, end in at]))
    x, n = np.column_stack(columns), np.diag(lengths)
    w = (np.linalg.inv(x.T @ n @ x) @ x.T @ n)[1]
    return float(math.sqrt(w @ means @ between @ means.T @ w))


def differences(lengths: Sequence[float], slope: float, trials: int, seed: int) -> Array:
    """What so many trials find, whose order turns round; the drift goes either way."""
    draw = np.random.default_rng(seed)
    found = []
    for number, noise in enumerate(autoregression(draw, trials)):
        states = parts.states(number % 2 == 0)[: len(lengths)]
        drift = slope * (1 if draw.random() < 0.5 else -1)
        rows = trial(lengths, states, noise, drift)
        found.append(pairs.pairs(rows, "block", ("cpu.workload",)).differences)
    return np.concatenate(found)


@pytest.mark.parametrize("first", [False, True])
def test_a_straight_drift_cancels_in_five_parts_and_not_in_two(first: bool) -> None:
    """Also where coming takes longer than going: the states have not quite the same mean time."""
    still, states = np.zeros(400), parts.states(first)
    for slope in (-SLOPE, SLOPE, 20 * SLOPE):
        rows = trial(FIVE, states, still, slope)
        sample = pairs.pairs(rows, "block", ("cpu.workload",))
        assert sample.differences == pytest.approx([EFFECT], abs=1e-6)
        assert sample.on_requests == sample.off_requests == [RATE * 12]
    (of_halves,) = pairs.pairs(trial(TWO, states[:2], still, SLOPE), "block",
                               ("cpu.workload",)).differences  # fmt: skip
    late = 12.0 + (COMES if states[1] else GOES)
    assert of_halves == pytest.approx(EFFECT + SLOPE * late * (1 if states[1] else -1))


@pytest.mark.parametrize("slope", [0.0, SLOPE])
def test_a_trial_errs_by_what_its_weights_and_the_noise_say(slope: float) -> None:
    found = differences(FIVE, slope, 1000, seed=1)
    expected = standard_error(FIVE, parts.states(True))
    assert expected == pytest.approx(standard_error(FIVE, parts.states(False)), rel=0.02)
    assert np.std(found, ddof=1) == pytest.approx(expected, rel=0.07)  # 2.2 % is its own error
    assert np.mean(found) == pytest.approx(EFFECT, abs=4 * expected / math.sqrt(len(found)))


def test_halves_err_by_more_and_by_the_drift() -> None:
    expected = standard_error(TWO, (True, False))
    assert expected > 1.2 * standard_error(FIVE, parts.states(True))
    still = differences(TWO, 0.0, 1000, seed=2)
    assert np.std(still, ddof=1) == pytest.approx(expected, rel=0.07)
    assert np.std(differences(TWO, SLOPE, 300, seed=2), ddof=1) > 2 * expected


def test_intervals_over_trials_hold_the_truth_as_often_as_they_say() -> None:
    """The signed ranks of eight trials reach 96.1 %; their width is that of the standard error."""
    trials, runs = 8, 300
    found = differences(FIVE, SLOPE, trials * runs, seed=3).reshape(runs, trials)
    each = [ranks.hodges_lehmann(run) for run in found]
    held = np.mean([interval.low <= EFFECT <= interval.high for interval in each])
    assert 0.93 <= held <= 0.99
    told = np.mean([interval.standard_error for interval in each])
    known = standard_error(FIVE, parts.states(True)) / math.sqrt(trials)
    assert 1.0 <= told / known <= 1.35  # Student's quantile of eight is 1.21 of the normal one


def test_windows_put_together_err_as_a_trial_without_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is switched in them from one to the next is in both states alike."""
    monkeypatch.setattr(stretches, "MOST", 500)
    draw = np.random.default_rng(4)
    trials = []
    for noise in autoregression(draw, 500):
        rows = []
        for step, us in enumerate(LEVEL + noise[: round(sum(FIVE) / STEP)]):
            on = step % 4 in (1, 2)
            meters = {"cpu.workload": 1e-6 * (us + EFFECT * on) * RATE * STEP,
                      "requests": RATE * STEP, "seconds": STEP}  # fmt: skip
            begin, end = (round(1e9 * STEP * each) for each in (step, step + 1))
            rows.append(WindowRow(Window(step, step // 4, on, begin, end), meters))
        trials.append(rows)
    found = stretches.spread_percent(trials, sum(FIVE))
    expected = standard_error(FIVE, parts.states(True), apart=0.0)
    assert found == pytest.approx(100 * expected / (LEVEL + EFFECT / 2), rel=0.1)
    assert math.isnan(stretches.spread_percent(trials[:5], sum(FIVE)))
    nearly = stretches.spread_percent(trials, 1.04 * sum(FIVE))
    assert nearly == pytest.approx(found)  # a trial is of whole cycles, and ends before its time
    assert math.isnan(stretches.spread_percent(trials, 1.1 * sum(FIVE)))
    assert math.isnan(stretches.spread_percent(trials, 2 * sum(FIVE)))  # none is as long


def test_each_part_is_unlike_the_last_and_each_state_has_half_of_the_time() -> None:
    assert parts.states(True) == [True, False, True, False, True]
    for first in (True, False):
        states = parts.states(first)
        assert parts.are_whole(states)
        assert sum(itertools.compress(FIVE, states)) == sum(FIVE) / 2
    assert parts.are_whole([True, False])  # a trial of earlier versions
    for broken in ([], [True], [True, True], [True, False, True], [True, False, False, True, False],
                   [True, False, True, False]):  # fmt: skip
        assert not parts.are_whole(broken)


def test_what_comes_and_goes_takes_longer_to_measure() -> None:
    block = Arm("a", ("bpftrace",), (), "block")
    assert parts.turning_seconds(Arm("a", ("http",)), 0.5) == 0
    assert parts.turning_seconds(Arm("nothing", (), (), "block"), 0.5) == 2.0
    option = Arm("a", ("hubble",), (), "block")
    assert 2.0 < parts.turning_seconds(block, 0.5) < parts.turning_seconds(option, 0.5)


def test_a_plan_reckons_with_what_comes_and_goes() -> None:
    arms = (Arm("baseline"), Arm("a", ("http",), (), "block"))
    e = synthetic.experiment(workloads=("go",), arms=arms, blocks=2)
    switched = replace(e, arms=(arms[0], replace(arms[1], method="switch")))
    longer = e.expected_seconds() - switched.expected_seconds()
    assert longer == pytest.approx(2 * parts.turning_seconds(arms[1], e.settle_seconds))
    line = next(line for line in choice.plan(e) if "arm a" in line)
    assert f"block, by turns in 5 parts of a trial, {longer / 2:.0f} s beside them" in line
