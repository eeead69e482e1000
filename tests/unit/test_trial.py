"""Whose profile is named when a trial's collectors are removed, without a process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.model import Trial
from harness.node import trial
from harness.node.testbed import Notes

STAGE: Any = SimpleNamespace(workload=SimpleNamespace(pids=lambda: [7, 8]))


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    def run(argv: list[str], timeout: float) -> None:
        assert argv[-2:] == ["7", "8"]
        found.append(Path(argv[-3]).name)

    monkeypatch.setattr(trial.shell, "run", run)
    return found


def agent(name: str, kind: str = "profile") -> Any:
    return SimpleNamespace(name=name, definition=SimpleNamespace(agent=kind))


def notes() -> Notes:
    return Notes(Trial(0, "go", 1, "new", "switched", 1))


def test_each_of_two_sets_has_its_own_profile_named_once(tmp_path: Path, named: list[str]) -> None:
    (tmp_path / "pprof").mkdir()
    (tmp_path / "pprof-profile-reference").mkdir()
    both = notes()
    trial._profile(STAGE, [agent("profile-reference")], tmp_path, both.of("reference"))
    assert named == ["pprof-profile-reference"]
    assert "profile" not in both.extra
    trial._profile(STAGE, [agent("profile")], tmp_path, both.of("candidate"))
    assert named == ["pprof-profile-reference", "pprof"]
    assert both.extra["profile"] == "pprof/profile.folded"


def test_a_reference_alone_with_a_profiler_is_not_the_candidate(
    tmp_path: Path, named: list[str]
) -> None:
    (tmp_path / "pprof").mkdir()
    both = notes()
    trial._profile(STAGE, [agent("http", "http")], tmp_path, both.of("candidate"))
    assert named == []
    trial._profile(STAGE, [agent("profile-reference")], tmp_path, both.of("reference"))
    assert named == ["pprof"]
    assert "profile" not in both.extra


def test_both_folders_of_one_that_was_installed_twice_are_named(
    tmp_path: Path, named: list[str]
) -> None:
    for name in ("pprof", "pprof-profile"):
        (tmp_path / name).mkdir()
    alone = notes()
    trial._profile(STAGE, [agent("http", "http"), agent("profile")], tmp_path, alone)
    assert sorted(named) == ["pprof", "pprof-profile"]
    assert alone.extra["profile"] == "pprof/profile.folded"
