"""What a trial notes of its load and its agents: rates, profiles, what they counted; no process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.collectors import REGISTRY
from harness.errors import CollectorError
from harness.linux import processes
from harness.load.record import Record
from harness.model import Arm
from harness.node import requests, trial
from harness.node.load_driver import LoadSummary
from harness.node.testbed import TrialLog
from harness.plan import trials
from harness.plan.definitions import resolve_all
from harness.plan.experiment import Experiment, plan

E = Experiment("e", ("go",), (Arm("baseline"), Arm("new", ("profile",), ("profile",))))
TESTBED: Any = SimpleNamespace(service=SimpleNamespace(pids=lambda: [7, 8]))


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    def run(argv: list[str], timeout: float) -> None:
        assert argv[-2:] == ["7", "8"]
        found.append(Path(argv[-3]).name)

    monkeypatch.setattr(processes, "run", run)
    return found


def test_chance_in_the_number_of_drawn_arrivals_is_no_shortcoming(tmp_path: Path) -> None:
    record, told = Record(), notes()
    for slot in range(180):  # of 100 a second 90 were drawn
        due = slot * 10**9 // 90
        record.add(due, due, due + 10**6, 200, False, "/", 5)
    record.write(tmp_path / "requests.npz")
    summary = LoadSummary(180, 0, 0.1, 0.2, False, "", due_per_second=90.0)
    requests.note_load(summary, tmp_path / "requests.npz", 100.0, told)
    rates = {v.metric: v.value for v in told.values if v.metric.startswith("rate_")}
    assert rates == {"rate_asked": 90.0, "rate_achieved": pytest.approx(90.0)}


def agent(name: str, kind: str = "profile") -> Any:
    return SimpleNamespace(name=name, counts=True, spec=trials.collector(REGISTRY[kind]))


def notes() -> TrialLog:
    return TrialLog(trials.trial(E, plan(E)[0], resolve_all(E)))


def test_each_of_two_sets_has_its_own_profile_named_once(tmp_path: Path, named: list[str]) -> None:
    (tmp_path / "pprof").mkdir()
    (tmp_path / "pprof-profile-reference").mkdir()
    both = notes()
    trial._profile(TESTBED, [agent("profile-reference")], tmp_path, both.of("reference"))
    assert named == ["pprof-profile-reference"]
    assert "profile" not in both.details
    trial._profile(TESTBED, [agent("profile")], tmp_path, both.of("candidate"))
    assert named == ["pprof-profile-reference", "pprof"]
    assert both.details["profile"] == "pprof/profile.folded"


def test_a_reference_alone_with_a_profiler_is_not_the_candidate(
    tmp_path: Path, named: list[str]
) -> None:
    (tmp_path / "pprof").mkdir()
    both = notes()
    trial._profile(TESTBED, [agent("http", "http")], tmp_path, both.of("candidate"))
    assert named == []
    trial._profile(TESTBED, [agent("profile-reference")], tmp_path, both.of("reference"))
    assert named == ["pprof"]
    assert "profile" not in both.details


def test_both_folders_of_one_that_was_installed_twice_are_named(
    tmp_path: Path, named: list[str]
) -> None:
    for name in ("pprof", "pprof-profile"):
        (tmp_path / name).mkdir()
    alone = notes()
    trial._profile(TESTBED, [agent("http", "http"), agent("profile")], tmp_path, alone)
    assert sorted(named) == ["pprof", "pprof-profile"]
    assert alone.details["profile"] == "pprof/profile.folded"


COUNTED = {"events": 23, "lost": 0, "map_bytes": 4096}


def test_a_collector_that_did_not_see_the_service_all_the_time_spoils_the_trial() -> None:
    with pytest.raises(CollectorError, match="made anew 2 times") as refused:
        notes().add_counts(agent("http"), {**COUNTED, "reattached": 2, "errors": 0})
    assert refused.value.ends == "trial"


def test_what_failed_in_an_agent_is_told_and_its_counts_are_kept() -> None:
    told = notes()
    told.add_counts(agent("http"), {**COUNTED, "reattached": 0, "errors": 1})
    assert [value.value for value in told.values] == [23, 0, 4096]
    (warning,) = told.details["warnings"]
    assert "http: once something failed in its agent" in warning
    assert "agent-http.log" in warning


def test_what_somebody_elses_says_that_it_lost_is_kept() -> None:
    told = notes()
    theirs = SimpleNamespace(counts=False, goes_on=False, program_ids=(), name="tetragon")
    told.add_counts(theirs, {"events": 42.0, "lost": 4.0})  # type: ignore[arg-type]
    kept = {value.metric: value.value for value in told.values}
    assert kept == {"map_bytes": 0, "events": 42, "events_lost": 4}


@pytest.mark.parametrize("more", [{}, {"reattached": 0, "errors": 0}], ids=["external", "ours"])
def test_an_agent_without_mishaps_is_not_warned_of(more: dict[str, int]) -> None:
    told = notes()
    told.add_counts(agent("http"), {**COUNTED, **more})
    assert "warnings" not in told.details
    assert len(told.values) == 3


NETWORK = [f"{n} ({name}, pinned)" for n, name in enumerate(["b", "a", "d", "b", "c"], start=7)]


@pytest.mark.parametrize(
    ("programs", "begins"),
    [
        (
            ["7 (theirs, held by process 8)"],
            "BPF program 7 (theirs, held by process 8) was loaded since the run began: what it ",
        ),
        (
            NETWORK[:2],
            "2 BPF programs were loaded since the run began, 8 (a, pinned), 7 (b, pinned): what ",
        ),
        (
            NETWORK,
            "5 BPF programs were loaded since the run began, 8 (a, pinned), 10 (b, pinned), "
            "11 (c, pinned) and 2 more: what they cost the service is ",
        ),
    ],
    ids=["one", "two", "a network's"],
)
def test_programs_that_others_loaded_meanwhile_are_told_of_in_one_sentence(
    programs: list[str], begins: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They cost the service something in off windows, too."""
    idle = SimpleNamespace(close=lambda: None, shares=dict)
    monkeypatch.setattr(trial, "Conditions", lambda _: idle)
    monkeypatch.setitem(trial._METHODS, "switch", lambda *_: [])
    testbed: Any = SimpleNamespace(
        receiver=SimpleNamespace(check=lambda: None, mark=lambda: 0, posted=lambda _: {}),
        machine=SimpleNamespace(strange_programs=lambda: programs),
        service=SimpleNamespace(cgroup=tmp_path),
    )
    (told,) = trial.run(testbed, notes().spec, tmp_path).details["warnings"]
    assert told.startswith(begins)
