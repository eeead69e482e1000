"""A run against a stored one: increases, what differs, and where a report can come from."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.analysis import budgets, gates, provisos
from harness.cli import app
from harness.errors import InputError, StoreError
from harness.linux import processes
from harness.report import build, junit, stored
from harness.report import gate as texts
from harness.results.run import Run
from tests.unit import synthetic
from tests.unit.gated import PUBLISHED, gate, measured, row

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


@pytest.mark.parametrize("document", [False, True])
def test_load_from_elsewhere_and_other_arrivals_are_differences(
    document: bool, tmp_path: Path
) -> None:
    what = synthetic.experiment(workloads=("go",), switched_seconds=2.4, blocks=1)
    found = []
    for name, spaced, node in (("a", "periodic", {}), ("b", "poisson", {"target": "ssh:far"})):
        known = {"go": {"rate": 120.0, "capacity": 300.0, "driver_cpu_share": 0.2,
                        "arrivals": spaced}}  # fmt: skip
        run = synthetic.write(tmp_path / name, what, calibration=known, load_node=node)
        where = build.build(run).json if document else run.path
        found.append(stored.measured(where))
    assert provisos.differences(found[1], found[0]) == [
        "load: beside the service then, ssh:far now",
        "arrivals of go: periodic then, poisson now",
    ]


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
    assert provisos.differences(fresh, again) == []
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
    processes.run(["git", "init", "-q", "-b", "main"])
    processes.run(["git", "add", "kept"])
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    processes.run(["git", *who, "commit", "-qm", "keep"])
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
