"""Paths are looked up in roots, though a file system of one never answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.agent import bounded, files, lookup
from harness.agent.bounded import Answers
from harness.agent.files import Watched
from harness.agent.lookup import Lookup
from harness.agent.policy import Rule
from harness.agent.roots import Root
from tests.unit import opened
from tests.waiting import PATIENCE_SECONDS, until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A root in which `dead` is to be silent, and `link` leads into it."""
    for name in ("dead", "alive"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").touch()
    (tmp_path / "link").symlink_to("/dead")
    (tmp_path / "way").symlink_to("/alive")
    return tmp_path


class Question(bounded._Question):
    """One that its thread knows."""

    of_thread = threading.local()

    def __init__(self, call: Callable[[], None]) -> None:
        def known() -> None:
            self.of_thread.this = self
            call()

        super().__init__(known)


@pytest.fixture
def answers_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Until it is set, what is asked about `dead` is not answered."""
    for name in ("WAIT_SECONDS", "_NEXT_SECONDS"):
        monkeypatch.setattr(bounded, name, PATIENCE_SECONDS)  # what answers does, where all is slow
    monkeypatch.setattr(bounded, "_Question", Question)
    event = threading.Event()
    for name in ("_followed", "_names", "is_file", "is_folder", "answers"):
        asked = getattr(Root, name)

        def ask(root: Root, path: str, asked: object = asked) -> object:
            if not event.is_set() and ("dead" in path or path.startswith("/link/")):
                Question.of_thread.this.over.set()  # as if it had been waited for long enough
                event.wait()
            return asked(root, path)  # type: ignore[operator]

        monkeypatch.setattr(Root, name, ask)
    yield event
    event.set()


def test_what_answers_is_known_and_the_rest_is_when_it_does(
    folder: Path, answers_again: threading.Event
) -> None:
    rules = (
        Rule("keys", "open", ("/way/key", "/alive/*", "/dead/key", "/dead/*", "/link/key"), "kill"),
    )
    answers = Answers()
    dead = f"{folder}/dead/key"
    with closing(Root(str(folder))) as root:
        before = len(opened.at(folder))
        look = Lookup([root], answers)
        found = look(lambda roots: files.listed(rules, roots))
        alive = f"{folder}/alive/key"
        assert found[alive] == Watched(alive, "/way/key", 0)
        assert not found[dead].answers
        assert {dead, f"{folder}/dead", f"{folder}/link/key"} <= look.silent.keys()
        wanted = look(lambda roots: files.folders(rules, roots))
        assert wanted[f"{folder}/alive"] == {"key", "*"}
        assert answers.refuses("roots")
        answers_again.set()
        assert until(lambda: not answers._held_up)
        assert until(lambda: len(opened.at(folder)) == before)
        again = Lookup([root], answers)
        found = again(lambda roots: files.listed(rules, roots))
        assert found[dead].answers
        assert found.keys() == {alive, dead}
        assert again.silent == {}


def test_after_the_end_nobody_is_asked(folder: Path) -> None:
    answers = Answers()
    answers.close()
    with closing(Root(str(folder))) as root:
        before = len(opened.at(folder))
        look = Lookup([root], answers)
        assert look(lambda roots: [each.real("/way/key") for each in roots]) == [
            f"{folder}/way/key"
        ]
        assert len(opened.at(folder)) == before


def test_mounts_are_those_of_the_process_whose_root_it_is(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "mountinfo").write_text(
        "36 35 98:0 / / rw,noatime master:1 - ext4 /dev/root rw\n"
        "41 36 0:45 / /mnt/a\\040b rw shared:2 - nfs4 server:/x rw,hard\n"
        "42 36 0:46 / /proc rw - proc none rw\n"
    )
    assert lookup.mounts(f"{tmp_path}/7/root") == [
        lookup.Mount(41, "/mnt/a b", "nfs4"),
        lookup.Mount(42, "/proc", "proc"),
    ]
    assert lookup.mounts(f"{tmp_path}/8/root") == []
    assert any(each.place == "/proc" for each in lookup.mounts(""))
