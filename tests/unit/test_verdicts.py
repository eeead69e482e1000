"""What an interval says of a budget, and how much measuring would decide what is open."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis import budgets, gates, verdicts
from harness.analysis.budgets import Budget
from harness.analysis.verdicts import Verdict
from harness.report import gate as texts
from harness.report import remarks
from harness.report.gate import Gate
from tests.unit.gated import gate, measured, one, row

NAN = math.nan


@pytest.mark.parametrize(
    ("low", "high", "limits", "outcome"),
    [
        (0.5, 1.5, {"max": 2}, "pass"),
        (0.5, 2.0, {"max": 2}, "pass"),
        (1.5, 2.5, {"max": 2}, "inconclusive"),
        (2.1, 2.5, {"max": 2}, "fail"),
        (98.0, 99.5, {"min": 99}, "inconclusive"),
        (99.1, 99.9, {"min": 99}, "pass"),
        (97.0, 98.9, {"min": 99}, "fail"),
        (0.5, 1.5, {"min": 0, "max": 2}, "pass"),
        (-1.0, 3.0, {"min": 0, "max": 2}, "inconclusive"),
        (-3.0, -1.0, {"min": 0, "max": 2}, "fail"),
        (0.0, 0.0, {"max": 0}, "pass"),
        (NAN, NAN, {"max": 2}, "inconclusive"),
        (NAN, 1.0, {"max": 2}, "inconclusive"),
        (5.0, math.inf, {"max": 2}, "inconclusive"),
        (-math.inf, 1.0, {"max": 2}, "inconclusive"),
    ],
)
def test_where_the_interval_lies_decides(
    low: float, high: float, limits: dict[str, Any], outcome: str
) -> None:
    assert one(low, high, **limits).outcome == outcome


finite = st.floats(-1e6, 1e6)
width = st.floats(0, 1e6)


@given(finite, width, width, width, finite, width)
def test_a_wider_interval_never_decides_what_was_open(
    low: float, size: float, left: float, right: float, least: float, span: float
) -> None:
    limits = (least, least + span)
    narrow = verdicts.decide(low, low + size, *limits)
    wide = verdicts.decide(low - left, low + size + right, *limits)
    assert wide in (narrow, "inconclusive")


@given(finite, width, finite, width, width, width)
def test_a_limit_moved_outward_never_fails_what_passed_nor_the_reverse(
    low: float, size: float, least: float, span: float, down: float, up: float
) -> None:
    order = ["fail", "inconclusive", "pass"]
    strict = verdicts.decide(low, low + size, least, least + span)
    loose = verdicts.decide(low, low + size, least - down, least + span + up)
    assert order.index(loose) >= order.index(strict)


@given(st.integers(-1000, 1000), st.integers(0, 1000), st.integers(-1000, 1000))
def test_an_open_verdict_tells_how_much_measuring_would_close_it(
    low: float, size: float, limit: float
) -> None:
    found = row(low, low + size)
    verdict = Verdict(Budget(1, found.metric, most=limit), "go", "http", found.metric, "pass", "",
                      found)  # fmt: skip
    times = verdicts.more_measuring(verdict)
    assert times >= 1
    if verdicts.decide(found.low, found.high, -math.inf, limit) != "inconclusive":
        assert times == 1
    elif math.isfinite(times):
        half = (found.high - found.low) / 2 / math.sqrt(times) * (1 - 1e-6)
        low, high = found.estimate - half, found.estimate + half
        assert verdicts.decide(low, high, -math.inf, limit) != "inconclusive"


def test_an_open_verdict_says_how_to_close_it() -> None:
    assert "about 4.0 times the measuring" in one(0.5, 2.5, max=2).sentence
    assert "too near" in one(0.5, 2.5, max=1.5).sentence


def test_a_mean_over_few_trials_narrows_faster_than_a_square_root() -> None:
    allowed = budgets.from_dict({"budget": [{"metric": "agent_memory_mb", "max": 31}]})
    found = row(20, 40, "agent_memory_mb", method="mean over trials, Student's t interval", n=2)
    (verdict,) = gates.judge(measured(dataclasses.replace(found, estimate=28.0, low=16)), allowed)
    # t(1) / sqrt(2) = 8.98 must shrink 4-fold: to 2.25; t(2) / sqrt(3) = 2.48, t(3) / 2 = 1.59
    assert verdicts.more_measuring(verdict) == 2.0


def test_one_fail_decides_and_one_open_verdict_holds_a_pass_back() -> None:
    passed, failed, open_ = one(0, 1, max=2), one(3, 4, max=2), one(1, 3, max=2)
    assert verdicts.overall([passed, passed]) == "pass"
    assert verdicts.overall([passed, open_]) == "inconclusive"
    assert verdicts.overall([passed, open_, failed]) == "fail"


@pytest.mark.parametrize(
    ("verdict", "rule", "code"),
    [
        ((0, 1), None, 0),
        ((3, 4), None, 1),
        ((1, 3), None, 3),
        ((1, 3), "pass", 0),
        ((1, 3), "fail", 1),
        ((3, 4), "pass", 1),
        ((0, 1), "fail", 0),
    ],
)
def test_exit_code(verdict: tuple[float, float], rule: Any, code: int) -> None:
    assert gate(one(*verdict, max=2), inconclusive=rule).exit_code == code


def test_what_is_missing_is_inconclusive_with_its_reason() -> None:
    allowed = budgets.from_dict({"budget": [{"metric": "bpf_us", "max": 1}]})
    (verdict,) = gates.judge(measured(), allowed)
    assert verdict.outcome == "inconclusive"
    assert verdict.sentence == "Not measured. The arm was skipped."
    assert gate(verdict).exit_code == 3


def test_a_range_is_called_a_range() -> None:
    allowed = budgets.from_dict({"budget": [{"metric": "agent_memory_mb", "max": 40}]})
    memory = row(30, 31, "agent_memory_mb", method="mean and range over trials", n=6)
    (verdict,) = gates.judge(measured(memory), allowed)
    assert verdict.sentence == "The whole range of 6 trials lies within the budget."
    assert texts.cells(verdict)[5] == "[30.00, 31.00], range of 6"


@pytest.mark.parametrize("limits", [{"max": 40}, {"max": 20}])
def test_a_range_of_few_trials_decides_nothing(limits: dict[str, float]) -> None:
    allowed = budgets.from_dict({"budget": [{"metric": "attach_ms", **limits}]})
    found = row(30, 31, "attach_ms", method="mean and range over trials", n=5)
    (verdict,) = gates.judge(measured(found), allowed)
    assert verdict.outcome == "inconclusive"
    assert verdict.sentence == (
        "A range of 5 trials holds the median in 94 % of runs, which is too few to judge by it: "
        "measure at least 6 blocks."
    )


def test_a_budget_with_two_sides_can_fail_wrongly_on_either() -> None:
    both, above = one(0.5, 1, min=0, max=2), one(0.5, 1, max=2)
    assert verdicts.wrong_fail_percent([above]) == 2.5
    assert verdicts.wrong_fail_percent([both, above]) == 7.5
    share = dataclasses.replace(above, budget=Budget(1, "bpf_us", percent=1.0))
    assert verdicts.wrong_fail_percent([share]) == 2.5


@pytest.mark.parametrize(
    ("blocks", "words"),
    [(0, ""), (1, "has one block"), (2, "in 88 to 94 % of runs"), (3, "93 to 95 %"), (4, "")],
)
def test_few_blocks_are_said_to_hold_less(blocks: int, words: str) -> None:
    found = remarks.of(Gate(measured(blocks=blocks), [one(0, 1, max=2)], "budget.toml"))
    about = [text for text in found if "block" in text]
    assert len(about) == bool(words)
    assert words in "".join(about)
