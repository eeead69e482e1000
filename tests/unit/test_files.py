"""Files that are whole or not there: what a reader sees, and what is left after an error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import pytest

from harness.wire.files import whole, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("lasting", [False, True])
def test_a_reader_sees_the_old_text_until_the_new_one_is_whole(
    tmp_path: Path, lasting: bool
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with whole(path, lasting=lasting) as out:
        out.write(b"new")
        out.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


def failing(out: BinaryIO, error: BaseException) -> None:
    out.write(b"half")
    raise error


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()])
def test_an_error_while_writing_leaves_the_old_text_and_nothing_else(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(type(error)), whole(path) as out:
        failing(out, error)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / f".file.{os.getpid()}.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "file", "x" * 100_000)
    assert names(tmp_path) == []


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "none/file", b"")


def test_only_what_is_to_last_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file itself, and the folder that has its name."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    write_whole(tmp_path / "brief", "")
    assert synced == []
    write_whole(tmp_path / "kept", "text", lasting=True)
    assert synced == [str(tmp_path / f".kept.{os.getpid()}.partial"), str(tmp_path)]
