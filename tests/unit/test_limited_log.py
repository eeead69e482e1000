"""A log that holds the first and the last of what was said, and no more on the disk meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import pytest

from harness.linux import processes, syscall
from harness.node import limited_log
from harness.node.limited_log import KEPT, PIECE, LimitedLog
from tests import waiting

LINE = b"a line of its own\n"
MIDDLE = 24 << 20


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as log:
        log.write(content)


def _on_disk(path: Path) -> int:
    """What is no hole: blocks would count what a file system sets aside for what comes."""
    held, end = 0, 0
    with path.open("rb") as log, contextlib.suppress(OSError):  # ENXIO: there is no more
        while True:
            begin = os.lseek(log.fileno(), end, os.SEEK_DATA)
            end = os.lseek(log.fileno(), begin, os.SEEK_HOLE)
            held += end - begin
    return held


def _require_holes(folder: Path) -> None:
    with (folder / "holes").open("w+b") as file:
        file.write(b"x" * 2 * PIECE)
        file.flush()
        try:
            syscall.punch_hole(file.fileno(), 0, PIECE)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                pytest.skip(f"the file system of {folder} has no holes")
            raise


def _words(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("first", "last"))]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """One in which something was said before, by another process."""
    _append(tmp_path / "log", b"before\n")
    return tmp_path / "log"


def test_what_is_little_is_kept_whole(log: Path) -> None:
    begin = log.stat().st_size
    limited = LimitedLog(log, begin)
    _append(log, b"first\n" + b"x" * (2 * KEPT - 11) + b"\nlast")
    assert log.stat().st_size == begin + 2 * KEPT
    assert limited.hold()
    assert _words(limited.said()) == ["first", "last"]
    assert len(limited.said()) == 2 * KEPT
    assert limited.close() == 0
    assert log.stat().st_size == begin + 2 * KEPT


def test_of_what_is_much_the_disk_holds_little_and_the_cut_is_told(log: Path) -> None:
    _require_holes(log.parent)
    begin = log.stat().st_size
    limited = LimitedLog(log, begin)
    _append(log, b"first 1\n")
    for _ in range(MIDDLE // PIECE):
        _append(log, b"x" * PIECE)
        assert limited.hold()
        assert _on_disk(log) <= 2 * KEPT + 3 * PIECE
    _append(log, b"\nlast 2\n")
    said = MIDDLE + len(b"first 1\n\nlast 2\n")
    assert limited.size() == begin + said  # to who appends it is as long as ever
    assert _words(limited.said()) == ["first 1", "last 2"]
    assert len(limited.said()) <= 2 * KEPT + 1
    assert "\0" not in limited.said()
    assert limited.close() == said - 2 * KEPT
    kept = log.read_bytes()
    assert kept.startswith(b"before\nfirst 1\n")
    assert kept.endswith(b"\nlast 2\n")
    assert f"\n({said - 2 * KEPT} bytes were cut here.)\n".encode() in kept
    assert b"\0" not in kept
    assert len(kept) < begin + 2 * KEPT + 100


def test_who_says_more_later_is_heard_though_much_was_cut(log: Path) -> None:
    limited = LimitedLog(log, 0)
    _append(log, b"x" * MIDDLE)
    limited.hold()
    place = limited.size()
    assert limited.said_since(place) == ""
    _append(log, b"\nlast 3\n")
    assert _words(limited.said_since(place)) == ["last 3"]
    _append(log, b"y" * MIDDLE + b"\nlast 4\n")
    assert _words(limited.said_since(place)) == ["last 4"]
    limited.close()


def test_another_process_holds_it_while_this_one_has_no_time(log: Path) -> None:
    _require_holes(log.parent)
    limited = LimitedLog(log, 0)
    limited.keep()
    _append(log, b"first\n" + b"x" * MIDDLE)
    assert waiting.until(lambda: _on_disk(log) <= 2 * KEPT + 3 * PIECE)
    assert limited.size() > MIDDLE
    assert limited.close() > MIDDLE - 2 * KEPT
    assert not Path("/proc", str(limited._keeper.pid)).exists()  # type: ignore[union-attr]


def test_where_it_cannot_be_held_it_is_short_at_the_end_all_the_same(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(syscall, "punch_hole", refuse)
    limited = LimitedLog(log, 0)
    _append(log, b"x" * MIDDLE)
    assert not limited.hold()
    assert limited.close() > 0
    assert log.stat().st_size < 2 * KEPT + 100


def test_who_writes_waits_for_nobody(log: Path) -> None:
    """Nobody reads what this says, and it comes to its end."""
    process = processes.spawn(["head", "-c", str(MIDDLE), "/dev/zero"], log=log)
    limited = LimitedLog(log, process.log_start)
    assert processes.ended(process, waiting.PATIENCE_SECONDS) == 0
    assert limited.close() == MIDDLE - 2 * KEPT


def test_what_is_started_meanwhile_is_told_by_a_sentence(tmp_path: Path) -> None:
    told: list[str] = []
    with limited_log.limited(tmp_path / "log", "mine", told.append) as limited:
        _append(tmp_path / "log", LINE)
        limited.keep()
    assert told == []
    with limited_log.limited(tmp_path / "log", "mine", told.append):
        _append(tmp_path / "log", b"x" * 7_100_000)
    assert told == [
        "mine said so much that 5.0 MB of its log were cut: its first and its last megabyte are "
        "kept."
    ]


@pytest.mark.parametrize(
    ("cut", "words"),
    [(7, " 7 bytes "), (2_100, " 2.1 kB "), (999_000, " 999.0 kB "), (1_500_000, " 1.5 MB ")],
)
def test_a_small_cut_is_told_in_small_units(cut: int, words: str) -> None:
    assert words in limited_log.told("mine", cut, True)


@pytest.mark.parametrize("written", [None, 1000])
def test_a_last_megabyte_without_room_is_not_told_as_kept(
    written: int | None, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at once, or after some bytes."""
    write = os.pwrite

    def full(descriptor: int, content: bytes, place: int) -> int:
        if written is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, content[:written], place)

    limited = LimitedLog(log, 0)
    _append(log, b"x" * 3 * KEPT)
    end = limited.size()
    monkeypatch.setattr(os, "pwrite", full)
    cut = limited.close()
    assert (cut, log.stat().st_size) == (end - KEPT, KEPT)
    told = limited_log.told("mine", cut, limited.has_end)
    assert told.endswith("its first megabyte is kept, and for its last one there was no room.")


def test_the_last_words_of_a_long_log_are_found(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        log.truncate(MIDDLE)
        log.seek(MIDDLE)
        log.write(b"\n" + 3 * LINE)
    assert processes.last_words(tmp_path / "log") == 3 * [LINE.decode().rstrip()]
