"""Folders of a file system that does not answer hold up nobody but who asks it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.agent import bounded
from harness.agent.folders import Folders
from harness.agent.inotify import Inotify
from tests.waiting import PATIENCE_SECONDS, until


@pytest.fixture
def folders() -> Iterator[Folders]:
    made = Folders()
    yield made
    made.close()


def watches(folders: Folders) -> int:
    return Path(f"/proc/self/fdinfo/{folders.fd}").read_text().count("inotify wd:")


class Hung:
    """A folder for which the first who asks waits, before it is watched or after that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, after: bool = False) -> None:
        self._after = after
        self.asked, self.answers = threading.Event(), threading.Event()
        self._folder, self._watch = folder, Inotify.watch
        monkeypatch.setattr(Inotify, "watch", lambda one, folder: self.watch(one, folder))

    def watch(self, inotify: Inotify, folder: Path) -> int | None:
        held_up = folder == self._folder and not self.asked.is_set()
        found = self._watch(inotify, folder) if self._after or not held_up else None
        if held_up:
            self.asked.set()
            self.answers.wait(10 * PATIENCE_SECONDS)  # longer than a test waits for others
        return found or self._watch(inotify, folder)


def ends(step: Callable[[], object]) -> bool:
    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    return not thread.is_alive()


@pytest.mark.parametrize("after", [False, True])
def test_switching_off_waits_for_no_file_system_and_nothing_is_watched_then(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    folders.attach()
    hung = Hung(monkeypatch, tmp_path, after)
    aiming = threading.Thread(target=folders.aim, args=({str(tmp_path): {"*"}},), daemon=True)
    aiming.start()
    assert hung.asked.wait(PATIENCE_SECONDS)
    assert ends(folders.changed)
    assert ends(folders.destroy)
    hung.answers.set()
    aiming.join(PATIENCE_SECONDS)
    (tmp_path / "new").touch()
    assert not folders.changed()
    assert watches(folders) == 0


@pytest.mark.parametrize("after", [False, True])
def test_what_is_watched_meanwhile_stays_watched(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """It went off and on again, and the first round is told late that its folder is there."""
    (tmp_path / "other").mkdir()
    folders.attach()
    hung = Hung(monkeypatch, tmp_path, after)
    wanted = {str(tmp_path): {"new"}, str(tmp_path / "other"): {"new"}}
    aiming = threading.Thread(target=folders.aim, args=(wanted,), daemon=True)
    aiming.start()
    assert hung.asked.wait(PATIENCE_SECONDS)
    assert ends(folders.destroy)
    assert ends(folders.attach)
    hung.answers.set()
    aiming.join(PATIENCE_SECONDS)
    assert watches(folders) == 2
    for folder in (tmp_path, tmp_path / "other"):
        (folder / "new").touch()
        assert folders.changed()


def test_switching_on_ends_though_a_file_system_does_not_answer(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "WAIT_SECONDS", 0.1)
    folders.aim({str(tmp_path): {"*"}})
    hung = Hung(monkeypatch, tmp_path)
    assert ends(folders.attach)
    hung.answers.set()
    assert until(lambda: watches(folders) == 1)  # by the thread that goes on


def test_what_comes_while_a_round_is_under_way_is_not_missed(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first").mkdir()
    folders.attach()
    hung = Hung(monkeypatch, tmp_path)
    wanted = {str(tmp_path / "first"): {"new"}, str(tmp_path): {"new"}}
    aiming = threading.Thread(target=folders.aim, args=(wanted,), daemon=True)
    aiming.start()
    assert hung.asked.wait(PATIENCE_SECONDS)
    (tmp_path / "first" / "new").touch()
    assert folders.changed()
    hung.answers.set()
    aiming.join(PATIENCE_SECONDS)


def test_what_is_used_by_whom_a_file_system_holds_up_is_not_closed_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = Folders()
    folders.attach()
    hung = Hung(monkeypatch, tmp_path)
    aiming = threading.Thread(target=folders.aim, args=({str(tmp_path): {"*"}},), daemon=True)
    aiming.start()
    assert hung.asked.wait(PATIENCE_SECONDS)
    assert ends(folders.close)
    assert Path(f"/proc/self/fd/{folders.fd}").exists()
    hung.answers.set()
    aiming.join(PATIENCE_SECONDS)
    assert not Path(f"/proc/self/fd/{folders.fd}").exists()


def test_folders_that_are_meant_no_more_are_not_watched(folders: Folders, tmp_path: Path) -> None:
    """A folder by two paths is watched until neither is meant."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.symlink_to("one")
    folders.attach()
    assert folders.aim({str(one): {"a"}, str(two): {"b"}})
    assert watches(folders) == 1
    assert not folders.aim({str(two): {"b"}})
    (one / "a").touch()
    assert not folders.changed()
    (one / "b").touch()
    assert folders.changed()
    folders.destroy()
    assert watches(folders) == 0
    folders.attach()
    assert watches(folders) == 1
    assert not folders.aim({})
    assert watches(folders) == 0


def test_another_folder_of_the_same_name_takes_its_place(folders: Folders, tmp_path: Path) -> None:
    wanted = {str(tmp_path / "one"): {"new"}}
    (tmp_path / "one").mkdir()
    folders.attach()
    assert folders.aim(wanted)
    (tmp_path / "one").rename(tmp_path / "before")
    (tmp_path / "one").mkdir()
    assert folders.aim(wanted)
    assert watches(folders) == 1
    (tmp_path / "before" / "new").touch()
    assert not folders.changed()
    (tmp_path / "one" / "new").touch()
    assert folders.changed()
