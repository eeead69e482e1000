"""Looks paths up in roots, of which some file systems may not answer; used by `policy_maps`.

As a rule all of it is looked up at once. Only while something there does not answer is each path
looked up by itself, so that the others are known.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from harness.agent.bounded import Answers, Unanswered, Unasked
from harness.agent.roots import Root

T = TypeVar("T")


class Mount(NamedTuple):
    """Where a file system is mounted, as its root sees it."""

    number: int
    place: str
    kind: str


class Lookup:
    """Questions to these roots, for as long as they are open. `silent` is what did not answer."""

    def __init__(self, roots: Sequence[Root], answers: Answers) -> None:
        self._roots, self._answers = roots, answers
        self._bounded: list[BoundedRoot] = []

    @property
    def silent(self) -> dict[str, str]:
        """Paths that did not answer, each with what is known of its file system."""
        return {path: why for root in self._bounded for path, why in root.silent.items()}

    def __call__(self, question: Callable[[Sequence[Root]], T]) -> T:
        """The answer of all roots; where one does not answer, that of the others."""
        if not self._bounded:
            with contextlib.suppress(Unanswered):
                return self._at_once(question)
            self._bounded = [BoundedRoot(root, self._answers) for root in self._roots]
        return question(self._bounded)

    def _at_once(self, question: Callable[[Sequence[Root]], T]) -> T:
        copies = [root.copy() for root in self._roots]  # whoever is held up outlives these

        def ask() -> T:
            try:
                return question(copies)
            finally:
                _close(copies)

        try:
            return self._answers.ask(ask, "roots", patient=True)
        except Unasked:
            _close(copies)
            raise


class BoundedRoot(Root):
    """A root whose every question is asked by a thread of its own; what is silent is not there."""

    def __init__(self, root: Root, answers: Answers) -> None:
        self._root, self._answers = root, answers
        self._place, self._own = root._place, root._own
        self._mounts = mounts(self._place)
        self.silent: dict[str, str] = {}

    def is_file(self, reached: str) -> bool:
        """False if it is silent."""
        return self._ask(reached, lambda root: root.is_file(reached), False)

    def is_folder(self, reached: str) -> bool:
        """False if it is silent."""
        return self._ask(reached, lambda root: root.is_folder(reached), False)

    def answers(self, reached: str) -> bool:
        """False if it is silent."""
        return self._ask(reached, lambda root: root.answers(reached), False)

    def _followed(self, path: str) -> str | None:
        return self._ask(self._place + path, lambda root: root._followed(path), None)

    def _names(self, folder: str) -> list[str]:
        return self._ask(self._place + folder, lambda root: root._names(folder), [])

    def _ask(self, reached: str, question: Callable[[Root], T], otherwise: T) -> T:
        """Put it to the file system that is mounted there, as far as no link leads elsewhere."""
        path = reached.removeprefix(self._place) or "/"
        mount = max(
            (each for each in self._mounts if _is_below(path, each.place)),
            key=lambda each: len(each.place),
            default=None,
        )
        # by its number: another one that is mounted there later is asked anew
        about: Hashable = (mount.number, mount.place) if mount else (self._place, path)
        if not self._answers.refuses(about):
            copy = self._root.copy()
            try:
                return self._answers.ask(lambda: _answer(copy, question), about)
            except Unasked:
                copy.close()
            except Unanswered:
                pass  # the thread has it
        kind = f"{mount.kind} mounted at {self._place}{mount.place}" if mount else ""
        self.silent[reached] = kind
        return otherwise


def mounts(place: str) -> list[Mount]:
    """What is mounted below a root that is `/proc/PID/root`, or this process's own for "".

    Not what is mounted as the root: where links lead is not known.
    """
    process = Path(place).parent if place else Path("/proc/self")
    found = []
    try:
        lines = (process / "mountinfo").read_bytes().splitlines()
    except OSError:  # it has ended
        return []
    for line in lines:
        fields, _, rest = line.partition(b" - ")
        number, _, _, _, where, *_ = fields.split(b" ")
        path = os.fsdecode(where.decode("unicode_escape").encode("latin-1"))
        if path != "/":
            found.append(Mount(int(number), path, rest.split(b" ")[0].decode(errors="replace")))
    return found


def _answer(root: Root, question: Callable[[Root], T]) -> T:
    try:
        return question(root)
    finally:
        root.close()


def _close(roots: Sequence[Root]) -> None:
    for each in roots:
        each.close()


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
