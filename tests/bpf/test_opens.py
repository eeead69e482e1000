"""Marks on files are made for file systems that may not answer, and are forgotten one day."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.agent import bounded, opens
from harness.agent.answerer_process import AnswererProcess
from harness.agent.denier import Denier
from harness.agent.fanotify import File, Group
from harness.agent.files import Watched
from harness.agent.opens import Opens
from harness.agent.policy import Rule
from harness.agent.together import Together
from tests.waiting import until

pytestmark = pytest.mark.bpf

RULES = (Rule("files", "open", ("/nowhere",), "report"),)


class NobodyEnded:
    """What is remembered of those who ended, without any."""

    def look(self) -> None:
        pass

    def find(self, *_: int) -> None:
        return None

    def forgets(self) -> bool:
        return False


@pytest.fixture
def watching(service: Any) -> Iterator[Opens]:
    made = Opens(service.path, RULES, NobodyEnded(), Together(), lambda *_: {})  # type: ignore[arg-type]
    yield made
    made.destroy()
    made.close()


def files(*paths: Path) -> dict[str, Watched]:
    return {str(each): Watched(str(each), str(each), 0) for each in paths}


def marks(watching: Opens) -> int:
    told = Path(f"/proc/self/fdinfo/{watching._told.fd}").read_text()
    return told.count("fanotify ino:")


class Hung:
    """A file for which the first who marks waits, before the mark is made or after that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, file: Path, after: bool = False) -> None:
        self._after = after
        self.asked, self.answers = threading.Event(), threading.Event()
        self._file, self._mark = str(file), Group.mark
        monkeypatch.setattr(Group, "mark", lambda one, path: self.mark(one, path))

    def mark(self, group: Group, path: str) -> File | None:
        held_up = path == self._file and not self.asked.is_set()
        found = self._mark(group, path) if self._after or not held_up else None
        if held_up:
            self.asked.set()
            self.answers.wait(120)
        return found or self._mark(group, path)


def ends(step: Callable[[], object]) -> bool:
    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    thread.join(60)
    return not thread.is_alive()


@pytest.mark.parametrize("closes", [False, True])
def test_nobody_waits_for_a_file_system_and_no_mark_is_left_when_it_is_off(
    watching: Opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closes: bool
) -> None:
    secret = tmp_path / "secret"
    secret.touch()
    watching.attach()
    hung = Hung(monkeypatch, secret)
    marking = threading.Thread(target=watching.watch, args=(files(secret),), daemon=True)
    marking.start()
    assert hung.asked.wait(60)
    assert ends(watching.collect)
    assert ends(watching.destroy)
    left: list[int] = []
    if closes:
        close = Group.close
        monkeypatch.setattr(
            Group, "close", lambda group: (left.append(marks(watching)), close(group))
        )
        assert ends(watching.close)
        assert left == []  # its number could be another file's, which would be marked
    hung.answers.set()
    marking.join(60)
    assert (left if closes else [marks(watching)]) == [0]
    assert Path(f"/proc/self/fd/{watching._told.fd}").exists() is not closes


@pytest.mark.parametrize("after", [False, True])
def test_what_is_held_up_holds_up_no_other_file_and_is_marked_in_the_end(
    watching: Opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """It is off and on again meanwhile, so that what is marked by then is to be marked anew."""
    secret, other = tmp_path / "secret", tmp_path / "other"
    secret.touch()
    other.touch()
    watching.attach()
    hung = Hung(monkeypatch, secret, after)
    marking = threading.Thread(target=watching.watch, args=(files(secret, other),), daemon=True)
    marking.start()
    assert hung.asked.wait(60)
    for _ in range(3):
        assert ends(watching.destroy)
        assert marks(watching) == 0
        assert ends(watching.attach)
        assert marks(watching) == 1
    hung.answers.set()
    marking.join(60)
    assert marks(watching) == 2


def test_switching_on_ends_though_a_file_system_does_not_answer(
    watching: Opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "WAIT_SECONDS", 0.1)
    secret = tmp_path / "secret"
    secret.touch()
    watching.watch(files(secret))
    hung = Hung(monkeypatch, secret)
    assert ends(watching.attach)
    hung.answers.set()
    assert until(lambda: marks(watching) == 1)  # by the thread that goes on


def test_files_that_are_meant_no_more_are_forgotten(
    watching: Opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opens, "_KEPT", 3)
    watching.attach()
    made = [tmp_path / f"file-{number}" for number in range(20)]
    for each in made:
        each.touch()
        watching.watch(files(made[0], each))
        known = {path for path, _ in watching._marked.values()}
        assert len(known) <= 2 + 3
        assert {str(made[0]), str(each)} <= known


class HungAnswerer:
    """An answerer that the file system holds up: the first time that it marks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.answers = threading.Event(), threading.Event()
        self._mark = AnswererProcess.mark
        monkeypatch.setattr(AnswererProcess, "mark", lambda one, paths: self.mark(one, paths))

    def mark(self, answerer: AnswererProcess, paths: Sequence[str]) -> list[File | None]:
        found = self._mark(answerer, paths)
        if not self.asked.is_set():
            self.asked.set()
            self.answers.wait(120)
        return found


def denied(service: Any, path: Path) -> bool:
    """Whether somebody of the cgroup is."""
    return bool(service.start("/bin/cat", str(path)).wait(60) == -signal.SIGKILL)


@pytest.mark.parametrize("ending", ["off", "off and on", "closed"])
def test_who_denies_is_as_it_was_wanted_while_it_was_held_up(
    service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(bounded, "WAIT_SECONDS", 0.1)
    secret = tmp_path / "secret"
    secret.touch()
    denier = Denier(service.path)
    pid = denier._answerer.pid
    try:
        denier.switch_on()
        hung = HungAnswerer(monkeypatch)
        marking = threading.Thread(target=denier.mark, args=([str(secret)],), daemon=True)
        marking.start()
        assert hung.asked.wait(60)
        assert ends(denier.denials)
        assert ends(lambda: denier.revive([str(secret)]))
        assert ends(denier.close if ending == "closed" else denier.switch_off)
        if ending == "off and on":
            denier.switch_on()
        hung.answers.set()
        marking.join(60)
        assert denied(service, secret) is (ending == "off and on")
        assert Path(f"/proc/{pid}").exists() is (ending != "closed")
        assert denier.mark([str(secret)]).keys() == (
            {str(secret)} if ending == "off and on" else set()
        )
    finally:
        denier.close()
