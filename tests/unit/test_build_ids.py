"""Build ids of files that processes have mapped are remembered, and forgotten one day."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.agent import images
from harness.agent.bounded import Answers
from harness.agent.images import BuildIds
from harness.agent.memory import mapped


@pytest.fixture
def file(tmp_path: Path) -> Callable[[int], Path]:
    """A program of its own by number."""
    program = next(
        mapping.path
        for mapping, _ in mapped(os.getpid())
        if BuildIds(Answers()).find(os.getpid(), mapping.path, "")
    )

    def copied(number: int) -> Path:
        return Path(shutil.copy(program, tmp_path / f"file-{number}"))

    return copied


def test_a_file_is_read_once_and_forgotten_when_others_came(
    file: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_FILES", 3)
    known = BuildIds(Answers())

    def find(path: Path) -> str:
        return known.find(os.getpid(), str(path), path.name)

    first, *others = (file(number) for number in range(10))
    build_id = find(first)
    assert build_id
    first.unlink()
    for each in others:
        assert find(each) == find(first) == build_id  # it is asked for, and so remembered
        each.unlink()
    assert [find(each) for each in others] == [""] * (len(others) - 2) + [build_id] * 2
    assert len(known._known) == 3


def test_a_file_that_cannot_be_read_is_tried_again(file: Callable[[int], Path]) -> None:
    known = BuildIds(Answers())
    path = file(0)
    content = path.read_bytes()
    path.write_bytes(b"")
    assert known.find(os.getpid(), str(path), "") == ""
    path.write_bytes(content)
    assert known.find(os.getpid(), str(path), "")
