"""Whose changes may be undone: entries of the dead only."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import InputError, NeedError
from harness.linux import owned_file, processes
from harness.linux.undo_journal import Journal, require_alone
from harness.wire import run_name

OWNER = """
import sys, time
from pathlib import Path
from harness.linux.undo_journal import Journal

journal = Journal(Path(sys.argv[1]))
with journal.locked():
    journal.write(journal.open("theirs"))
print('{"ready": true}', flush=True)
time.sleep(600)
"""


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def owner(journal: Journal, tmp_path: Path) -> Iterator[processes.Process]:
    """A process that wrote the entry `theirs` and lives."""
    argv = [sys.executable, "-c", OWNER, str(journal.directory)]
    process = processes.spawn(argv, log=tmp_path / "log")
    assert processes.announced(process, 60), (tmp_path / "log").read_text()
    yield process
    processes.stop(process, grace_seconds=0)


def test_an_entry_comes_back_as_it_was_written(journal: Journal) -> None:
    entry = journal.open("run", "/reports/run")
    entry.cgroups.append("/somewhere")
    with journal.locked():
        journal.write(entry)
        assert journal.entries() == [entry]
        journal.remove(entry)
    assert not journal.directory.exists()


def test_an_owner_lives_until_its_process_has_ended(
    journal: Journal, owner: processes.Process
) -> None:
    (theirs,) = journal.entries()
    assert (theirs.run, theirs.pid, theirs.alive) == ("theirs", owner.pid, True)
    os.kill(owner.pid, signal.SIGKILL)
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)  # a zombie still
    assert [entry.alive for entry in journal.entries()] == [False]


def test_a_live_owner_is_alive_whatever_the_process_of_that_number_is_here(
    journal: Journal, owner: processes.Process
) -> None:
    """In another PID namespace its number is nobody's, or a stranger's."""
    path = journal.directory / "theirs.json"
    for pid in (1 << 22, 1):
        with path.open("r+") as stream:  # the same file: its owner's lock stays
            told = json.load(stream) | {"pid": pid}
            stream.seek(0)
            stream.truncate()
            json.dump(told, stream)
        assert [(entry.pid, entry.alive) for entry in journal.entries()] == [(pid, True)]
        with pytest.raises(NeedError, match="is being measured"):
            require_alone(journal)


def test_what_an_owner_writes_again_is_still_its_own(journal: Journal) -> None:
    with journal.locked():
        entry = journal.open("run")
        for _ in range(3):
            journal.write(entry)
            entry.mounts.append("/somewhere")
        assert [each.alive for each in Journal(journal.directory).entries()] == [True]
        journal.remove(entry)


def test_an_entry_that_goes_while_it_is_read_is_no_error(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with journal.locked():
        entries = [journal.open(name) for name in ("first", "second")]
        for entry in entries:
            journal.write(entry)
        read = owned_file.read

        def gone_first(path: Path) -> tuple[str, bool]:
            if path.stem == "first":
                path.unlink()
            return read(path)

        monkeypatch.setattr(owned_file, "read", gone_first)
        assert [entry.run for entry in journal.entries()] == ["second"]
        for entry in entries:
            journal.remove(entry)
    assert journal.entries() == []


def test_an_entry_that_is_written_anew_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first file is nobody's any more, but its owner lives."""
    path = tmp_path / "file"
    descriptors = [owned_file.write(path, "old")]
    is_locked = owned_file._is_locked

    def written_meanwhile(descriptor: int) -> bool:
        if len(descriptors) == 1:
            descriptors.append(owned_file.write(path, "new"))
            os.close(descriptors[0])
        return is_locked(descriptor)

    monkeypatch.setattr(owned_file, "_is_locked", written_meanwhile)
    assert owned_file.read(path) == ("new", True)
    os.close(descriptors[1])
    assert owned_file.read(path) == ("new", False)


def test_an_entry_of_nonsense_is_told_in_words(journal: Journal) -> None:
    journal.directory.mkdir()
    for text in ("{", "[]", '{"mounts": []}'):
        (journal.directory / "run.json").write_text(text)
        with pytest.raises(NeedError, match=r"run\.json cannot be read"):
            journal.entries()


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


def test_the_draft_of_one_that_was_killed_does_not_stay(journal: Journal) -> None:
    with journal.locked():
        (journal.directory / "run.new").write_text("{")
    assert not journal.directory.exists()


@pytest.mark.parametrize("name", ["a", "2026-01-01_quick.2", "_", "x" * 100])
def test_what_a_run_may_be_called(name: str) -> None:
    run_name.check(name)


@pytest.mark.parametrize("name", ["", ".", "..", "-x", ".x", "a/b", "a b", "é", "a\n", "x" * 101])
def test_what_a_run_may_not_be_called(name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a run"):
        run_name.check(name)
