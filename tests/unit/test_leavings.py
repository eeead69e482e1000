"""What lies around after somebody else's collector: found, and removed if a definition names it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import ComponentError, NeedError, StoreError
from harness.linux import bpf_pins, bpf_programs, cgroup, mount, processes
from harness.node import leavings, subject_process
from harness.node.subject_process import SubjectProcess
from harness.wire.subject import Source, Subject
from tests.unit import opened


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, ...]:
    """/run and /var/lib, and the root of the cgroups, as nobody else has them."""
    found = tuple(tmp_path / name for name in ("run", "lib", "cgroup"))
    for each in found:
        each.mkdir()
    monkeypatch.setattr(leavings, "_PLACES", (*found[:2], tmp_path / "absent"))
    monkeypatch.setattr(mount, "find", lambda kind: found[2] if kind == "cgroup2" else None)
    return found


def test_what_appears_is_seen_wherever_it_is_and_what_is_ours_is_not(
    places: tuple[Path, ...],
) -> None:
    before = leavings.around()
    for place in places:
        (place / "theirs").mkdir()
        (place / "harness-1").mkdir()
    assert leavings.around() - before == {str(place / "theirs") for place in places}
    said = leavings.told("mine", leavings.around() - before)
    assert str(places[0] / "theirs") in said
    assert "left alone" in said


def test_a_folder_a_file_and_a_link_go_and_what_a_link_leads_to_stays(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (kept / "inside").mkdir(parents=True)
    (tmp_path / "left-folder" / "deep").mkdir(parents=True)
    (tmp_path / "left-file").touch()
    (tmp_path / "left-link").symlink_to(kept)
    found = leavings.named([f"{tmp_path}/left-*", f"{tmp_path}/none*"])
    assert len(found) == 3
    for each in found:
        assert leavings.remove(Path(each))
    assert leavings.named([f"{tmp_path}/*"]) == {str(kept)}
    assert (kept / "inside").is_dir()


def test_a_folder_that_holds_a_mount_stays_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run" / "theirs" / "deep").mkdir(parents=True)
    (tmp_path / "var").symlink_to(tmp_path / "run")
    there = [mount.Mount(tmp_path / "run" / "theirs" / "deep", "tmpfs")]
    monkeypatch.setattr(mount, "mounts", lambda: there)
    for place in ("run/theirs", "run/theirs/deep", "var/theirs"):
        assert not leavings.remove(tmp_path / place)
    assert (tmp_path / "run" / "theirs" / "deep").is_dir()
    there.clear()
    assert leavings.remove(tmp_path / "var" / "theirs")
    assert not (tmp_path / "run" / "theirs").exists()


def test_what_cannot_be_removed_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    (tmp_path / "left").touch()
    monkeypatch.setattr(Path, "unlink", refuse)
    assert not leavings.remove(tmp_path / "left")


@pytest.fixture
def ended(places: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A collector that was started, and whose process is gone."""
    monkeypatch.setattr(cgroup, "terminate", lambda *_: 0)
    monkeypatch.setattr(processes, "stop", lambda *_: None)
    monkeypatch.setattr(bpf_pins, "remove", lambda *_: [])
    one: Any = SubjectProcess.__new__(SubjectProcess)
    one._subject = Subject("process", Source("path", "x"), leaves=(f"{places[0]}/mine-*",))
    one._named = {*one._subject.leaves, f"{places[0]}/other"}
    one._there, one._around, one._started = set(), leavings.around(), True
    one._own, one._home, one._process = tmp_path, tmp_path / "home", None
    one._remarks, one.ready, one.name = [], {}, "x"
    one._words = SimpleNamespace(close=lambda: 0)
    one._require_unloaded = lambda: None
    return one


def test_what_stays_is_not_told_as_removed_and_what_another_leaves_is_its_own(
    ended: Any, places: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mine-1", "mine-2", "other", "stray"):
        (places[0] / name).mkdir()
    monkeypatch.setattr(mount, "mounts", lambda: [mount.Mount(places[0] / "mine-2", "bpf")])
    ended.kill()
    removed, stays, strays = ended._remarks
    assert removed == f"x left behind {places[0]}/mine-1: it was removed."
    assert stays == f"x left behind {places[0]}/mine-2: it could not be removed."
    assert f"{places[0]}/stray appeared" in strays


def _left(ended: Any, places: tuple[Path, ...]) -> Path:
    (places[0] / "mine-1").mkdir()
    return places[0] / "mine-1"


@pytest.mark.parametrize("what", ["cgroup.terminate", "processes.stop"])
def test_one_that_does_not_end_keeps_its_log_and_its_files_until_it_does(
    what: str, ended: Any, places: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ComponentError("It does not end.")

    closed = list[int]()
    ended._words.close = lambda: closed.append(1) or 0
    left = _left(ended, places)
    with monkeypatch.context() as stuck:
        stuck.setattr(f"harness.node.subject_process.{what}", fail)
        with pytest.raises(ComponentError, match="It does not end"):
            ended.kill()
    assert closed == []
    assert left.exists()
    for _ in range(2):
        ended.kill()  # as the trial's end does, once more
        assert closed == [1]
        assert not left.exists()


def test_where_its_log_cannot_be_cut_what_it_left_is_removed(
    ended: Any, places: tuple[Path, ...]
) -> None:
    def fail() -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    ended._words.close = fail
    left = _left(ended, places)
    ended.kill()
    assert not left.exists()
    assert ended._remarks[0] == "The log of x was not made short: Input/output error."


@pytest.fixture
def fresh(ended: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same before it is started; something was said in its log before."""
    monkeypatch.setattr(bpf_programs, "ids", frozenset)
    ended._started, ended._log = False, tmp_path / "log"
    ended._log.write_text("before\n")
    ended._mark, ended._seen, ended._placeholders = int, set(), dict
    ended.spec, ended._cpus = SimpleNamespace(command=["x"]), ()
    return ended


def test_one_whose_log_cannot_be_looked_at_is_not_spawned(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    spawned = list[object]()
    monkeypatch.setattr(processes, "spawn", lambda *_, **__: spawned.append(1))
    monkeypatch.setattr(subject_process, "LimitedLog", fail)
    with pytest.raises(StoreError, match=r"Cannot write .*/log: Too many open files"):
        fresh.start()
    assert spawned == []


def test_one_that_cannot_be_spawned_has_its_log_closed(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NeedError("Cannot start x.")

    monkeypatch.setattr(processes, "spawn", fail)
    with pytest.raises(NeedError, match="Cannot start x"):
        fresh.start()
    assert not opened.at(fresh._log)
    assert not fresh._started


def test_what_was_in_its_log_before_is_none_of_its_words(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def speak(*_: object, log: Path, **__: object) -> None:
        log.write_text(log.read_text() + "said\n")

    monkeypatch.setattr(processes, "spawn", speak)
    fresh.start()
    assert fresh._words.said() == "said\n"
    fresh.kill()


def test_a_pin_that_cannot_be_removed_is_not_told_as_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.name == "held":
            raise PermissionError

    held, free = tmp_path / "held", tmp_path / "free"
    monkeypatch.setattr(bpf_pins, "_pins", lambda: iter((held, free)))
    monkeypatch.setattr(bpf_pins, "_program_of", lambda _: 7)
    monkeypatch.setattr(mount, "find", lambda _: tmp_path)
    monkeypatch.setattr(Path, "unlink", unlink)
    assert bpf_pins.remove([7]) == [free]
