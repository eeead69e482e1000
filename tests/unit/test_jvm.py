"""What a JVM lacks to be profiled is told by its options."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness.agent import jvm
from harness.linux import processes
from tests.waiting import until

FLAG = "-XX:+PreserveFramePointer"


@pytest.fixture
def java(tmp_path: Path) -> list[str]:
    """A program of that name, which takes any options: a shell that waits."""
    program = shutil.copy("/bin/bash", tmp_path / "java")
    return [str(program), "-c", "echo begun; read < <(sleep 1000)"]


def told(argv: list[str], log: Path, env: dict[str, str] | None = None) -> str:
    process = processes.spawn(argv, log=log, env=env)
    try:
        # until then the kernel may not have its arguments where they are read
        assert until(lambda: b"begun" in log.read_bytes()[process.log_start :])
        return jvm.remark(process.pid)
    finally:
        processes.stop(process)


def test_a_jvm_without_frame_pointers_is_told(java: list[str], tmp_path: Path) -> None:
    assert FLAG in told(java, tmp_path / "log")


def test_one_that_has_them_is_not(
    java: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jvm, "_has_names", lambda _: True)
    assert told([*java, "java", FLAG], tmp_path / "log") == ""
    assert told(java, tmp_path / "log", {"JAVA_TOOL_OPTIONS": f"-Xmx1g {FLAG}"}) == ""
    assert told(java, tmp_path / "log", {"SOME": FLAG}) != ""


def test_names_need_a_map_or_who_writes_one(
    java: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jvm, "_has_names", lambda _: False)
    assert "perf map" in told([*java, "java", FLAG], tmp_path / "log")


def test_others_are_left_alone() -> None:
    assert jvm.remark(os.getpid()) == ""
    assert jvm.remark(2**22 + 1) == ""  # no such process
