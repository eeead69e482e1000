"""The gate: budgets as files, three-valued verdicts, stored runs, and what is written of them."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from harness import experiment, metered, shell
from harness.analysis import budgets, compare, gates, provisos
from harness.analysis.budgets import Budget
from harness.analysis.gates import Measured, Verdict
from harness.cli import app, choice, evaluation, screen
from harness.errors import InputError, StoreError
from harness.model import Arm, Comparison
from harness.report import gate as texts
from harness.report import junit, stored
from harness.report.gate import Gate
from harness.store import Run
from tests.unit import synthetic

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "reports/published/quick"
NAN = math.nan


def row(
    low: float,
    high: float,
    metric: str = "workload_cpu_percent",
    *,
    arm: str = "http",
    workload: str = "go",
    estimate: float | None = None,
    method: str = "Hodges-Lehmann",
    n: int = 50,
) -> Comparison:
    centre = (low + high) / 2 if estimate is None else estimate
    return Comparison(workload, arm, metric, "%", centre, low, high, n, 1.0, 100.0, method)


def measured(*rows: Comparison, **changes: Any) -> Measured:
    keys: dict[str, Any] = {
        "name": "run", "rows": {(r.workload, r.arm, r.metric): r for r in rows},
        "workloads": ("go",), "arms": ("http",), "missing": lambda *_: "The arm was skipped.",
        "started": "2026-01-01",
    }  # fmt: skip
    return Measured(**{**keys, **changes})


def one(low: float, high: float, metric: str = "workload_cpu_percent", **limits: float) -> Verdict:
    allowed = budgets.from_dict({"budget": [{"metric": metric, **limits}]})
    (verdict,) = gates.judge(measured(row(low, high, metric)), allowed)
    return verdict


def gate(*verdicts: Verdict, **changes: Any) -> Gate:
    return Gate(measured(), verdicts, "budget.toml", **changes)


# verdicts


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
    low: float, high: float, limits: dict[str, float], outcome: str
) -> None:
    assert one(low, high, **limits).outcome == outcome


finite = st.floats(-1e6, 1e6)
width = st.floats(0, 1e6)


@given(finite, width, width, width, finite, width)
def test_a_wider_interval_never_decides_what_was_open(
    low: float, size: float, left: float, right: float, least: float, span: float
) -> None:
    limits = (least, least + span)
    narrow = gates.decide(low, low + size, *limits)
    wide = gates.decide(low - left, low + size + right, *limits)
    assert wide in (narrow, "inconclusive")


@given(finite, width, finite, width, width, width)
def test_a_limit_moved_outward_never_fails_what_passed_nor_the_reverse(
    low: float, size: float, least: float, span: float, down: float, up: float
) -> None:
    order = ["fail", "inconclusive", "pass"]
    strict = gates.decide(low, low + size, least, least + span)
    loose = gates.decide(low, low + size, least - down, least + span + up)
    assert order.index(loose) >= order.index(strict)


@given(st.integers(-1000, 1000), st.integers(0, 1000), st.integers(-1000, 1000))
def test_an_open_verdict_tells_how_much_measuring_would_close_it(
    low: float, size: float, limit: float
) -> None:
    found = row(low, low + size)
    verdict = Verdict(Budget(1, found.metric, most=limit), "go", "http", found.metric, "pass", "",
                      found)  # fmt: skip
    times = gates.more_measuring(verdict)
    assert times >= 1
    if gates.decide(found.low, found.high, -math.inf, limit) != "inconclusive":
        assert times == 1
    elif math.isfinite(times):
        half = (found.high - found.low) / 2 / math.sqrt(times) * (1 - 1e-6)
        low, high = found.estimate - half, found.estimate + half
        assert gates.decide(low, high, -math.inf, limit) != "inconclusive"


def test_an_open_verdict_says_how_to_close_it() -> None:
    assert "about 4.0 times the measuring" in one(0.5, 2.5, max=2).sentence
    assert "too near" in one(0.5, 2.5, max=1.5).sentence


def test_a_mean_over_few_trials_narrows_faster_than_a_square_root() -> None:
    allowed = budgets.from_dict({"budget": [{"metric": "agent_memory_mb", "max": 31}]})
    found = row(20, 40, "agent_memory_mb", method="mean over trials, Student's t interval", n=2)
    (verdict,) = gates.judge(measured(dataclasses.replace(found, estimate=28.0, low=16)), allowed)
    # t(1) / sqrt(2) = 8.98 must shrink 4-fold: to 2.25; t(2) / sqrt(3) = 2.48, t(3) / 2 = 1.59
    assert gates.more_measuring(verdict) == 2.0


def test_one_fail_decides_and_one_open_verdict_holds_a_pass_back() -> None:
    passed, failed, open_ = one(0, 1, max=2), one(3, 4, max=2), one(1, 3, max=2)
    assert gates.overall([passed, passed]) == "pass"
    assert gates.overall([passed, open_]) == "inconclusive"
    assert gates.overall([passed, open_, failed]) == "fail"


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
    assert gates.wrong_fail_percent([above]) == 2.5
    assert gates.wrong_fail_percent([both, above]) == 7.5
    share = dataclasses.replace(above, budget=Budget(1, "bpf_us", percent=1.0))
    assert gates.wrong_fail_percent([share]) == 2.5


@pytest.mark.parametrize(
    ("blocks", "words"),
    [(0, ""), (1, "has one block"), (2, "in 86 to 93 % of runs"), (3, "93 to 95 %"), (4, "")],
)
def test_few_blocks_are_said_to_hold_less(blocks: int, words: str) -> None:
    found = texts.remarks(Gate(measured(blocks=blocks), [one(0, 1, max=2)], "budget.toml"))
    about = [text for text in found if "block" in text]
    assert len(about) == bool(words)
    assert words in "".join(about)


ROWS = (
    row(99, 100, "coverage_percent[requests]"), row(0, 1, "workload_cpu_us"),
    row(0, 1, "latency_p50_us[/slow]"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "nearest"),
    [
        ("coverage_percent[reqests]", "coverage_percent[requests]"),
        ("latency_p99_us[/slwo]", "latency_p99_us[/slow]"),
    ],
)
def test_a_signal_or_route_that_no_row_has_is_an_error(metric: str, nearest: str) -> None:
    allowed = budgets.from_dict({"budget": [{"metric": metric, "max": 1}]})
    with pytest.raises(InputError) as caught:
        gates.judge(measured(*ROWS), allowed)
    assert f"{metric!r}, but no row of the run has" in caught.value.what
    assert caught.value.next_step == f"The nearest is {nearest}."


def test_a_signal_that_was_not_measured_is_no_error() -> None:
    for metric in ("coverage_percent[reqests]", "latency_p99_us[/slow]"):
        allowed = budgets.from_dict({"budget": [{"metric": metric, "max": 1}]})
        rows = ROWS if "slow" in metric else ROWS[:1]  # too few requests; no usable trial
        (verdict,) = gates.judge(measured(*rows), allowed)
        assert verdict.outcome == "inconclusive"


def test_default_is_every_arm_with_collectors_in_every_workload() -> None:
    rows = [row(0, 1, arm=a, workload=w) for a in ("http", "all", "baseline") for w in ("go", "x")]
    allowed = budgets.from_dict({"budget": [{"metric": "workload_cpu_percent", "max": 2}]})
    run = measured(*rows, arms=("http", "all"), workloads=("go", "x"))
    found = {(v.workload, v.arm) for v in gates.judge(run, allowed)}
    assert found == {(w, a) for a in ("http", "all") for w in ("go", "x")}


def test_a_budget_can_name_arms_and_workloads_and_the_baseline() -> None:
    rows = [row(0, 1, arm=a) for a in ("http", "all", "baseline")]
    table = {"metric": "workload_cpu_percent", "max": 2, "arm": ["all", "baseline"]}
    run = measured(*rows, arms=("http", "all"))
    allowed = budgets.from_dict({"budget": [{**table, "workload": "go"}]})
    assert [v.arm for v in gates.judge(run, allowed)] == ["all", "baseline"]


@pytest.mark.parametrize(("key", "known"), [("arm", "http, baseline"), ("workload", "go")])
def test_a_name_that_the_run_does_not_have_is_an_error(key: str, known: str) -> None:
    table = {"metric": "workload_cpu_percent", "max": 2, key: "typo"}
    with pytest.raises(InputError) as caught:
        gates.judge(measured(row(0, 1)), budgets.from_dict({"budget": [table]}))
    assert caught.value.what == f"Budget 1 names the {key} 'typo', which the run does not have."
    assert known in caught.value.next_step


def test_a_run_without_collectors_has_nothing_to_judge() -> None:
    allowed = budgets.from_dict({"budget": [{"metric": "workload_cpu_percent", "max": 2}]})
    with pytest.raises(InputError, match="has none to judge"):
        gates.judge(measured(row(0, 1, arm="baseline"), arms=()), allowed)


def test_an_arm_of_equal_twins_is_judged_only_by_name(tmp_path: Path) -> None:
    twins = Arm("equal-twins", method="twin")
    what = synthetic.experiment(workloads=("go",), switched_seconds=2.4, blocks=1)
    run = synthetic.write(tmp_path / "run", dataclasses.replace(what, arms=(*what.arms, twins)))
    assert CliRunner().invoke(app, ["report", str(run.path)]).exit_code == 0
    table = {"metric": "rate_per_s", "min": 0}
    for found in (stored.measured(run.path), stored.measured(run.path / "report.json")):
        assert "equal-twins" not in found.arms
        verdicts = gates.judge(found, budgets.from_dict({"budget": [table]}))
        assert {v.arm for v in verdicts} == {arm.name for arm in what.arms if arm.collectors}
        named = budgets.from_dict({"budget": [{**table, "arm": "equal-twins"}]})
        assert [v.arm for v in gates.judge(found, named)] == ["equal-twins"]


def test_coverage_without_a_signal_means_every_signal() -> None:
    rows = [row(99, 100, f"coverage_percent[{signal}]") for signal in ("requests", "samples")]
    allowed = budgets.from_dict({"budget": [{"metric": "coverage_percent", "min": 95}]})
    found = [v.metric for v in gates.judge(measured(*rows), allowed)]
    assert found == ["coverage_percent[requests]", "coverage_percent[samples]"]


@pytest.mark.parametrize(("low", "high", "outcome"), [(0.1, 1.9, "pass"), (2.1, 3, "fail")])
def test_a_share_is_of_the_services_cpu_per_request(low: float, high: float, outcome: str) -> None:
    level = dataclasses.replace(row(-5, 5, "workload_cpu_us"), level=200.0)
    allowed = budgets.from_dict({"budget": [{"metric": "bpf_difference_us", "max_percent": 1}]})
    found = dataclasses.replace(row(low, high, "bpf_difference_us"), unit="us/request")
    (verdict,) = gates.judge(measured(level, found), allowed)
    assert verdict.outcome == outcome
    assert texts.cells(verdict)[-1] == "≤ 1 % = 2.0 µs"
    (verdict,) = gates.judge(measured(found), allowed)
    assert verdict.outcome == "inconclusive"
    assert "was not measured" in verdict.sentence


def test_a_share_of_latency_is_of_its_own_level() -> None:
    allowed = budgets.from_dict({"budget": [{"metric": "latency_p50_us", "max_percent": 2}]})
    found = dataclasses.replace(row(1, 5, "latency_p50_us"), unit="us", level=300.0)
    (verdict,) = gates.judge(measured(found), allowed)
    assert (verdict.outcome, verdict.budget.most) == ("pass", 6.0)


# budget files


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "must consist of [[budget]] tables; it has none"),
        ({"budget": {"metric": "bpf_us"}}, "must consist of [[budget]] tables"),
        ({"budgets": []}, "it has budgets"),
        ({"budget": [3]}, "Budget 1 of the budget is not a table"),
        ({"budget": [{"max": 1}]}, "names no metric"),
        ({"budget": [{"metric": "bpf_us"}]}, "sets no limit"),
        ({"budget": [{"metric": "bpf_us", "max": True}]}, "max must be a number, not True"),
        ({"budget": [{"metric": "bpf_us", "max": math.inf}]}, "max must be a number, not inf"),
        ({"budget": [{"metric": "bpf_us", "max": "2"}]}, "max must be a number, not '2'"),
        ({"budget": [{"metric": "bpf_us", "min": 2, "max": 1}]}, "nothing can pass"),
        ({"budget": [{"metric": "bpf_us", "max": 1, "arm": "http"}, {}]}, "Budget 2"),
        ({"budget": [{"metric": "bpf_us", "max": 1, "arm": []}]}, "arm must be a name or a list"),
        ({"budget": [{"metric": "bpf_us", "max": 1, "workload": []}]}, "workload must be a name"),
        ({"budget": [{"metric": "bpf_us", "max": 1, "arm": 3}]}, "arm must be a name or a list"),
        ({"budget": [{"metric": "bpf_us", "max": 1, "arm": [""]}]}, "arm must be a name or a list"),
        ({"budget": [{"metric": "bpf_us[x]", "max": 1}]}, "bpf_us is not divided further"),
        ({"budget": [{"metric": "coverage_percent[x", "min": 1}]}, "coverage_percent[NAME]"),
        ({"budget": [{"metric": "workload_cpu_precent", "max": 1}]},
         "The nearest is workload_cpu_percent"),
        ({"budget": [{"metric": "bpf_us", "maximum": 1}]}, "The nearest is max;"),
        ({"budget": [{"metric": "lost_percent", "max_percent": 1}]}, "lost_percent is in %"),
    ],
)  # fmt: skip
def test_a_bad_budget_is_told_in_words(data: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        budgets.from_dict(data)


def test_a_budget_file_that_cannot_be_read(tmp_path: Path) -> None:
    for content, message in ((None, "No such file"), (b"[[budget", "not valid TOML"),
                             (b"\xff\xfe", "not a text file")):  # fmt: skip
        path = tmp_path / f"{message[:3]}.toml"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            budgets.load(path)


def test_value_and_increase_in_one_table_are_two_budgets() -> None:
    table = {"metric": "agent_memory_mb", "max": 60, "max_increase": 5}
    first, second = budgets.from_dict({"budget": [table]})
    assert (first.kind, first.most, second.kind, second.most) == ("value", 60, "increase", 5)
    assert first.number == second.number == 1


# stored runs


INCREASE = budgets.from_dict({"budget": [{"metric": "workload_cpu_percent", "max_increase": 1}]})


def test_increase_adds_the_sides_of_both_intervals_in_quadrature() -> None:
    new, old = row(7, 14, estimate=10), row(0, 8, estimate=4)
    found = gates.increase(new, old)
    assert found.estimate == 6
    assert found.low == 6 - 5  # sqrt(3^2 + 4^2): down from new, up from old
    assert found.high == pytest.approx(6 + math.hypot(4, 4))


@pytest.mark.parametrize(
    ("new", "old", "outcome"),
    [((2.0, 2.2), (1.9, 2.1), "pass"), ((4.0, 4.2), (1.9, 2.1), "fail"),
     ((2.0, 6.0), (1.9, 2.1), "inconclusive")],
)  # fmt: skip
def test_increase_over_a_stored_run(
    new: tuple[float, float], old: tuple[float, float], outcome: str
) -> None:
    (verdict,) = gates.judge(measured(row(*new)), INCREASE, measured(row(*old), name="then"))
    assert verdict.outcome == outcome


def test_what_the_stored_run_lacks_is_inconclusive() -> None:
    (verdict,) = gates.judge(measured(row(1, 2)), INCREASE, measured(name="then"))
    assert verdict.outcome == "inconclusive"
    assert verdict.sentence == "The run then does not have it. The arm was skipped."


def test_an_increase_needs_a_stored_run_and_the_reverse() -> None:
    with pytest.raises(InputError, match="nothing to compare with"):
        gates.judge(measured(row(1, 2)), INCREASE)
    value = budgets.from_dict({"budget": [{"metric": "workload_cpu_percent", "max": 1}]})
    with pytest.raises(InputError, match="limits no increase"):
        gates.judge(measured(row(1, 2)), value, measured(row(1, 2)))


def test_differences_of_machines_are_listed_and_passing_ones_are_not() -> None:
    old = measured(
        facts={"kernel": "6.1", "load_average": [1], "versions": {"go": "1.25"}, "smt": False},
        rates={"go": 1000.0}, version="0.1.0",
    )  # fmt: skip
    new = measured(
        facts={"kernel": "6.18", "load_average": [2], "versions": {"go": "1.26"}, "smt": False},
        rates={"go": 1200.0}, version="0.1.0",
    )  # fmt: skip
    assert provisos.differences(new, old) == [
        "kernel: 6.1 then, 6.18 now",
        "go: 1.25 then, 1.26 now",
        "rate of go: 1000 then, 1200 now, a second",
    ]


def test_differences_of_how_it_was_measured_are_listed() -> None:
    how = {"idle_poll": True, "window_seconds": 0.05, "guard_seconds": 0.006}
    old = measured(settings={**how, "arms": {"http": "http, switch", "all": "http+flows, switch"}})
    changed = {**how, "idle_poll": False, "window_seconds": 0.1}
    new = measured(settings={**changed, "arms": {"http": "http against flows, switch"}})
    assert provisos.differences(new, old) == [
        "idle_poll: True then, False now",
        "window_seconds: 0.05 then, 0.1 now",
        "arm http: http, switch then, http against flows, switch now",
        "arm all: http+flows, switch then, none now",
    ]
    assert provisos.differences(new, measured())[-1] == "arms: unknown then, known now"
    assert provisos.differences(new, new) == []


def test_the_weaker_meaning_is_said_wherever_a_stored_run_is_used() -> None:
    then = measured(row(1, 2), name="then", facts={"kernel": "6.1"})
    verdicts = gates.judge(measured(row(1, 2)), INCREASE, then)
    found = gate(*verdicts, stored=then)
    for text in (texts.markdown(found), json.dumps(texts.document(found)), junit.xml(found)):
        assert "another time" in text
        assert "kernel: 6.1 then, unknown now" in text
    assert texts.document(found)["against"]["differences"] == ["kernel: 6.1 then, unknown now"]


def test_a_report_with_and_without_its_trials_reads_the_same(tmp_path: Path) -> None:
    what = synthetic.experiment(workloads=("go",), switched_seconds=2.4, blocks=1)
    run = synthetic.write(tmp_path / "run", what)
    fresh = stored.measured(run.path)
    done = CliRunner().invoke(app, ["report", str(run.path)])
    assert done.exit_code == 0, done.output
    again = stored.measured(run.path / "report.json")
    assert again.arms == fresh.arms
    assert again.workloads == fresh.workloads
    assert again.rates == fresh.rates
    assert again.warnings == fresh.warnings
    assert again.blocks == fresh.blocks == 1
    assert again.bare == fresh.bare == ("baseline",)
    assert again.settings == fresh.settings
    assert set(again.settings) >= {"window_seconds", "guard_seconds", "arms"}
    assert set(again.rows) == set(fresh.rows)
    for key, kept in again.rows.items():
        assert repr(kept) == repr(fresh.rows[key])  # repr, because NaN is not NaN


def test_a_skipped_arm_keeps_its_reason_in_a_stored_report() -> None:
    document = json.loads((PUBLISHED / "report.json").read_text())
    document["skipped_arms"] = [{"arm": "flows", "reason": "No BTF."}]
    document["rows"] = [r for r in document["rows"] if r["arm"] != "flows"]
    found = stored.of_document(document, Path("report.json"))
    assert "flows" in found.arms
    assert found.missing("go", "flows", "bpf_us") == "The arm was skipped: No BTF."


def test_a_stored_run_can_come_from_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "report.json").write_text((PUBLISHED / "report.json").read_text())
    monkeypatch.chdir(tmp_path)
    shell.run(["git", "init", "-q", "-b", "main"])
    shell.run(["git", "add", "kept"])
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    shell.run(["git", *who, "commit", "-qm", "keep"])
    (folder / "report.json").unlink()
    for where in ("main:kept/report.json", "main:kept", "HEAD:kept/"):
        assert stored.against(where).name == stored.measured(PUBLISHED).name
    with pytest.raises(InputError, match=r"git has no other:kept/report\.json"):
        stored.against("other:kept")
    with pytest.raises(InputError):
        stored.against("--output=stolen:kept")
    assert not (tmp_path / "stolen").exists()


@pytest.mark.parametrize(
    ("text", "error"),
    [(None, InputError), ("{", InputError), ("[]", InputError), ('{"schema_version": 99}',
     StoreError), ('{"schema_version": 1, "rows": [{}]}', StoreError)],
)  # fmt: skip
def test_what_is_no_report_is_refused(
    text: str | None, error: type[Exception], tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error):
        stored.measured(path)


def test_a_run_without_trials_and_report_is_refused(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", synthetic.experiment())
    with pytest.raises(InputError, match=r"Cannot read .*report\.json"):
        stored.measured(run.path)


# what is written


OTHER = dataclasses.replace(one(3, 4, "latency_p50_us[/a|<b>]", max=2), workload="java")
VERDICTS = (one(3, 4, max=2), one(1, 3, max=2.5), one(0, 1, max=1), OTHER)


@pytest.mark.parametrize(
    ("rule", "failures", "skipped"), [(None, 2, 1), ("pass", 2, 0), ("fail", 3, 0)]
)
def test_junit_has_the_shape_that_ci_systems_read(rule: Any, failures: int, skipped: int) -> None:
    root = ElementTree.fromstring(junit.xml(gate(*VERDICTS, inconclusive=rule)))
    assert root.tag == "testsuites"
    assert [suite.get("name") for suite in root] == ["go", "java"]
    assert (root.get("tests"), root.get("errors")) == ("4", "0")
    assert root.get("failures") == str(failures)
    assert root.get("skipped") == str(skipped)
    for suite in root:
        cases = suite.findall("testcase")
        assert suite.tag == "testsuite"
        assert suite.get("tests") == str(len(cases)) == str(len(list(suite)) - 1)
        assert suite[-1].tag == "system-out"
        assert suite.get("failures") == str(len(suite.findall("testcase/failure")))
        assert suite.get("skipped") == str(len(suite.findall("testcase/skipped")))
        assert len({case.get("name") for case in cases}) == len(cases)
        for case in cases:
            assert case.get("classname") == f"{suite.get('name')}.http"
            assert all(part.tag in ("failure", "skipped", "system-out") for part in case)
    assert {f.get("type") for f in root.iter("failure")} >= {"fail"}


def test_junit_names_a_check_the_same_in_every_run() -> None:
    tables = [
        {"metric": "workload_cpu_percent", "max": 2},
        {"metric": "bpf_us", "max_percent": 1},
        {"metric": "agent_memory_mb", "min": 0, "max": 5, "max_increase": 3},
    ]
    allowed = budgets.from_dict({"budget": tables})

    def names(run: Measured) -> list[tuple[str | None, str | None]]:
        found = Gate(run, gates.judge(run, allowed, run), "budget.toml")
        cases = ElementTree.fromstring(junit.xml(found)).iter("testcase")
        return [(case.get("classname"), case.get("name")) for case in cases]

    level = dataclasses.replace(row(0, 1, "workload_cpu_us"), level=200.0)
    bpf = dataclasses.replace(row(0, 1, "bpf_us"), unit="us/request")
    whole = measured(row(1, 3), level, bpf, row(1, 2, "agent_memory_mb"), name="one")
    assert names(whole) == names(measured(name="another")) == [
        ("go.http", "workload_cpu_percent ≤ 2 %"),
        ("go.http", "bpf_us ≤ 1 %"),
        ("go.http", "agent_memory_mb 0 to 5 MB"),
        ("go.http", f"{texts.DELTA} agent_memory_mb ≤ 3 MB"),
    ]  # fmt: skip


def test_junit_survives_what_xml_does_not_allow() -> None:
    odd = dataclasses.replace(one(3, 4, max=2), sentence="a\x00b\x1b[1m <&>")
    (case,) = ElementTree.fromstring(junit.xml(gate(odd))).iter("failure")
    assert "a?b?[1m <&>" in (case.get("message") or "")


def test_markdown_has_one_table_and_the_worst_first() -> None:
    text = texts.markdown(gate(*VERDICTS, link="https://ci.example.org/7"))
    lines = text.splitlines()
    assert (
        lines[0] == "### ❌ Overhead gate: FAIL: 2 of 4 checks are beyond budget; 1 inconclusive."
    )
    table = [line for line in lines if line.startswith("| ")]
    assert [line[2] for line in table[2:]] == ["❌", "❌", "❔", "✅"]
    cells = [re.split(r"(?<!\\)\|", line) for line in table]
    assert len({len(row) for row in cells}) == 1
    assert r"latency\_p50\_us\[/a\|\<b\>\]" in text
    assert "[report](https://ci.example.org/7)" in text
    assert text.count("<details>") == text.count("</details>") == 1
    assert "at most 10 %" in text


def test_an_inconclusive_verdict_shows_how_it_was_taken() -> None:
    text = texts.markdown(gate(one(1, 3, max=2), inconclusive="pass"))
    assert text.startswith("### ✅ Overhead gate: INCONCLUSIVE, taken as pass: 1 of 1 checks is")


def test_what_the_report_warns_of_is_told_with_the_verdict() -> None:
    run = measured(warnings=tuple(f"warning {n}" for n in range(5)), complete=False)
    said = texts.remarks(Gate(run, [one(0, 1, max=2)], "budget.toml"))
    assert "The report warns: warning 2" in said
    assert said[-1] == "It has 2 more warnings."
    assert any("did not end" in sentence for sentence in said)


def test_json_is_finite_and_agrees_with_the_exit_code() -> None:
    found = gate(*VERDICTS, one(NAN, NAN, max=2))
    document = json.loads(json.dumps(texts.document(found), allow_nan=False))
    assert document["exit_code"] == 1
    assert document["outcome"] == "fail"
    assert document["verdicts"][0]["most"] == 2
    assert document["verdicts"][0]["least"] is None
    assert document["verdicts"][-1]["low"] is None


def test_json_is_documented() -> None:
    page = (ROOT / "docs/gate.md").read_text()
    document = texts.document(gate(*VERDICTS, stored=measured()))
    names = {*document, *document["verdicts"][0], *document["against"]}
    assert {name for name in names if f"`{name}`" not in page} == set()


# the command


def run_gate(tmp_path: Path, budget: str, *options: str, run: Path = PUBLISHED) -> Any:
    path = tmp_path / "budget.toml"
    path.write_text(budget)
    return CliRunner().invoke(app, ["gate", str(run), "--budget", str(path), *options])


COVERED = '[[budget]]\nmetric = "coverage_percent[requests]"\narm = "http"\n'


@pytest.mark.parametrize(
    ("limit", "options", "code"),
    [
        ("min = 99", (), 0),
        ("min = 99.99", (), 3),
        ("min = 99.99", ("--inconclusive", "pass"), 0),
        ("min = 99.99", ("--inconclusive", "fail"), 1),
        ("max = 90", (), 1),
        ("maxi = 90", (), 2),
        ("max_increase = 1", (), 2),
        ("min = 99", ("--inconclusive", "maybe"), 2),
        ("min = 99", ("--against", "nowhere.json"), 2),
    ],
)
def test_exit_codes_on_a_published_run(
    limit: str, options: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    done = run_gate(tmp_path, COVERED + limit, *options)
    assert done.exit_code == code, done.output
    if code != 2:
        assert "Next: " in done.stdout.splitlines()[-1]


def test_every_output_of_one_call(tmp_path: Path) -> None:
    comment, suite, said = (tmp_path / "out" / name for name in ("c.md", "j.xml", "g.json"))
    done = run_gate(
        tmp_path, COVERED + "min = 99", "--markdown", str(comment), "--junit", str(suite),
        "--json-file", str(said), "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads(said.read_text())
    assert "✅" in comment.read_text()
    assert ElementTree.parse(suite).getroot().get("tests") == "3"


def test_a_run_against_itself_has_no_increase(tmp_path: Path) -> None:
    budget = '[[budget]]\nmetric = "coverage_percent[requests]"\narm = "http"\nworkload = "go"\n'
    done = run_gate(
        tmp_path, budget + "max_increase = 10", "--against", str(PUBLISHED / "report.json"),
        "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["verdicts"][0]["estimate"] == 0
    assert document["against"]["differences"] == []


def test_an_output_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_gate(tmp_path, COVERED + "min = 99", "--junit", str(tmp_path / "file/j.xml"))
    assert done.exit_code == 2


def test_the_budget_alone_can_be_checked(tmp_path: Path) -> None:
    path = tmp_path / "budget.toml"
    for text, code in ((COVERED + "min = 99", 0), (COVERED + "mni = 99", 2),
                       (COVERED + "max_increase = 1", 2)):  # fmt: skip
        path.write_text(text)
        done = CliRunner().invoke(app, ["gate", "--budget", str(path), "--check"])
        assert done.exit_code == code, done.output
    path.write_text(COVERED + "min = 99")
    done = CliRunner().invoke(app, ["gate", "--budget", str(path)])
    assert done.exit_code == 2
    assert "No run was named" in done.output


def test_the_help_says_the_exit_codes() -> None:
    text = " ".join(CliRunner().invoke(app, ["gate", "--help"]).output.split())
    assert "0 pass, 1 fail, 2 error (nothing was judged), 3 inconclusive" in text


def test_a_defect_is_an_error_and_never_a_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "judge", lambda *_: 1 / 0)
    done = run_gate(tmp_path, COVERED + "min = 99")
    assert done.exit_code == screen.ERROR == 2
    assert "ZeroDivisionError" in done.output


@pytest.mark.parametrize(
    "option",
    [("quick",), ("--command", "x"), ("--url", "x"), ("--arm", "a=http"), ("--workload", "go"),
     ("--run", "name"), ("--minutes", "0")],
)  # fmt: skip
def test_a_resumed_run_takes_no_other_plan(
    option: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "_resumed", lambda _: pytest.fail("it went on"))
    done = CliRunner().invoke(app, ["evaluate", *option, "--resume", str(tmp_path)])
    assert done.exit_code == 2, done.output
    assert "goes on as it was asked for" in done.output


SHIPPED = sorted([*experiment.SHIPPED.glob("*.toml"), ROOT / "ci/regression.toml"])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_two_versions_give_a_trial_of_every_shipped_experiment_an_interval(path: Path) -> None:
    """bpf_difference_us needs six quadruples of slices, or the gate can decide nothing."""
    what = dataclasses.replace(
        experiment.load(path), arms=choice.parse_arms(["old=http", "new=http"])
    )
    stage: Any = SimpleNamespace(experiment=what)
    states = metered._states(stage, taking_turns=True, seed=1)
    assert len(states) // 4 >= compare.LEAST
    assert sum(states) * 2 == len(states)
