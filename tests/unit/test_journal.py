"""Whose changes may be undone: entries of the dead only."""

from __future__ import annotations

import errno
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import NeedError
from harness.linux import processes
from harness.linux.undo_journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def test_an_entry_comes_back_as_it_was_written(journal: Journal, tmp_path: Path) -> None:
    entry = journal.open("run", tmp_path)
    entry.cgroups.append("/somewhere")
    with journal.locked():
        journal.write(entry)
        assert journal.entries() == [entry]
        journal.remove(entry)
    assert not journal.directory.exists()


def test_an_owner_lives_or_is_dead(journal: Journal, tmp_path: Path) -> None:
    mine = journal.open("run")
    assert mine.alive()
    assert not replace(mine, started=mine.started - 1).alive()  # the pid was given to another
    assert not replace(mine, boot="another").alive()
    child = processes.spawn([sys.executable, "-c", ""], log=tmp_path / "log")
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, a zombie still
    assert not replace(mine, pid=child.pid).alive()
    child.wait()
    assert not replace(mine, pid=child.pid).alive()


def test_one_at_a_time(journal: Journal) -> None:
    inside, most = 0, 0
    guard = threading.Lock()

    def enter() -> None:
        nonlocal inside, most
        for _ in range(20):
            with journal.locked():
                with guard:
                    inside += 1
                    most = max(most, inside)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert not journal.directory.exists()


def test_a_full_disk_is_a_sentence_and_leaves_no_draft(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with journal.locked():
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(NeedError, match="No space left on device"):
            journal.write(journal.open("run"))
    assert not journal.directory.exists()
