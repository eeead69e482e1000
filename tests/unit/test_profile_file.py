"""Samples in the files of a profiler within the service: those of the steady part are counted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.node import profile_file
from harness.node.testbed import Steady, TrialLog

# what the JDK's program prints of a recording; the file's name says what it is
JFR = """#!/bin/sh
[ "$1 $2 $3 $4" = "print --json --events jdk.ExecutionSample" ] || exit 3
for file; do :; done
cat "$file"
"""
STEADY = Steady(1_700_000_000_000_000_000, 1_700_000_010_000_000_000, 4.0)


@pytest.fixture(autouse=True)
def jfr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin/jfr"
    program.parent.mkdir()
    program.write_text(JFR)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


def recording(path: Path, *moments: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f'"startTime": "{each}", \n "state": "STATE_RUNNABLE"' for each in moments]
    path.write_text("\n".join(lines))


def noted(folder: Path, steady: Steady | None = STEADY, profile: str = "**/*.jfr") -> TrialLog:
    notes = TrialLog(SimpleNamespace(), steady=steady)  # type: ignore[arg-type]
    collector: Any = SimpleNamespace(
        name="jfr", subject=SimpleNamespace(profile=profile), options={"frequency": "50"}
    )
    profile_file.note(collector, folder, notes)
    return notes


def test_those_of_the_steady_part_are_held_beside_its_cpu_time(tmp_path: Path) -> None:
    recording(
        tmp_path / "of/one.jfr",
        "2023-11-14T22:13:19.999999999Z",  # before
        "2023-11-14T22:13:20.000000001Z",
        "2023-11-14T23:13:21.5+01:00",  # as a JVM in another time zone has it
        "2023-11-14T22:13:30.1Z",  # after
    )
    recording(tmp_path / "two.jfr", "2023-11-14T22:13:29.999Z")
    (tmp_path / "empty.jfr").touch()  # a JVM that was halted had no time for it
    (tmp_path / "other.txt").write_text('"startTime": "2023-11-14T22:13:25Z"')
    notes = noted(tmp_path)
    assert {(v.metric, v.value) for v in notes.values} == {
        ("signal_seen", 3.0),
        ("signal_made", 200.0),
    }
    assert {tuple(v.labels.items()) for v in notes.values} == {
        (("collector", "jfr"), ("signal", "samples"))
    }
    assert "warnings" not in notes.details


def test_what_two_files_hold_counts_once(tmp_path: Path) -> None:
    """A JVM that was killed within its dump leaves its repository as well."""
    moments = ("2023-11-14T22:13:21Z", "2023-11-14T22:13:22Z", "2023-11-14T22:13:22Z")
    recording(tmp_path / "profile.jfr", *moments[:2])
    recording(tmp_path / "repository/1.jfr", *moments)
    assert {v.value for v in noted(tmp_path).values if v.metric == "signal_seen"} == {3.0}


def test_a_trial_without_a_steady_part_counts_nothing(tmp_path: Path) -> None:
    recording(tmp_path / "one.jfr", "2023-11-14T22:13:25Z")
    assert noted(tmp_path, steady=None).values == []
    assert noted(tmp_path, profile="").values == []


def test_one_that_left_nothing_has_no_count_and_the_report_says_why(tmp_path: Path) -> None:
    (tmp_path / "empty.jfr").touch()
    notes = noted(tmp_path)
    assert notes.values == []
    (said,) = notes.details["warnings"]
    assert said.startswith("jfr: its samples were not counted. It left no file **/*.jfr")


def test_files_that_cannot_be_read_have_no_count(tmp_path: Path, jfr: Path) -> None:
    recording(tmp_path / "one.jfr", "2023-11-14T22:13:25Z")
    jfr.write_text("#!/bin/sh\necho 'file is truncated' >&2\nexit 1\n")
    notes = noted(tmp_path)
    assert notes.values == []
    assert "file is truncated" in notes.details["warnings"][0]


def test_without_the_program_that_reads_them_there_is_no_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording(tmp_path / "one.jfr", "2023-11-14T22:13:25Z")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    notes = noted(tmp_path)
    assert notes.values == []
    assert "`jfr`, which reads its files, is not on PATH" in notes.details["warnings"][0]
