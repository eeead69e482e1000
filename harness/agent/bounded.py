"""Calls that a dead file system holds up; used by opens, folders, policy_maps, lookup, images.

A thread that is held up goes on when its call returns, if ever, and then finds out whether that is
still wanted. Nobody waits for it for longer than WAIT_SECONDS, and nothing is freed under it.
"""

from __future__ import annotations

import logging
import resource
import threading
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

WAIT_SECONDS = 5.0
_NEXT_SECONDS = 0.3  # while something is held up: what answers does so in far less
HELD_UP = (
    "A file system does not answer: what is of it, or comes after it, is watched when it does."
)
_log = logging.getLogger("harness.agent")
T = TypeVar("T")


def take(step: Callable[[], None]) -> bool:
    """Take a step; False if it lasts longer than WAIT_SECONDS, and then it goes on by itself."""
    errors: list[Exception] = []

    def run() -> None:
        try:
            step()
        except Exception as error:
            errors.append(error)
            if late.is_set():
                _log.warning("%s", error)

    late = threading.Event()
    thread = threading.Thread(target=run, name="bounded", daemon=True)
    thread.start()
    thread.join(WAIT_SECONDS)
    late.set()
    if thread.is_alive():
        return False
    if errors:
        raise errors[0]
    return True


class Unanswered(OSError):
    """What was asked is not answered, or not in time."""


class Unasked(Unanswered):
    """Nobody was asked: what it is about is held up, or there is no memory for a thread."""


class Answers:
    """Questions that may be held up, each asked by a thread of its own, which nobody waits for.

    `about` is what they are put to: while it is held up by one, no other is asked. Whoever is held
    up goes on one day: a question must not use what may be freed by then.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held_up: dict[_Question, Hashable] = {}
        self._asked: set[_Question] = set()
        self._closed = False

    def refuses(self, about: Hashable) -> bool:
        """Whether nobody is asked about this: it is held up."""
        with self._lock:
            return self._refuses(about)

    def ask(self, call: Callable[[], T], about: Hashable = None, *, patient: bool = False) -> T:
        """What the call returns or raises; Unanswered if it takes too long, or is not made.

        That is WAIT_SECONDS; while something is held up, only who is `patient` waits so long.
        """
        found: list[T] = []
        question = _Question(lambda: found.append(call()))
        with self._lock:
            if self._refuses(about):
                raise Unasked("There is no answer.")
            self._asked.add(question)
            hurries = self._held_up and not patient
        thread = threading.Thread(target=self._run, args=(question,), name="bounded", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            with self._lock:
                self._asked.discard(question)
            raise Unasked(str(error)) from error
        question.over.wait(min(_NEXT_SECONDS, WAIT_SECONDS) if hurries else WAIT_SECONDS)
        with self._lock:
            if question in self._asked:
                self._held_up[question] = about
                raise Unanswered("There is no answer.")
        if question.error is not None:
            raise question.error
        return found[0]

    def close(self) -> None:
        """Wait for no answer any more, nor ask."""
        with self._lock:
            self._closed = True
            for each in self._asked:
                each.over.set()

    def _refuses(self, about: Hashable) -> bool:
        return self._closed or (about is not None and about in self._held_up.values())

    def _run(self, question: _Question) -> None:
        try:
            question.call()
        except BaseException as error:
            question.error = error
        finally:
            _spend(question.asker)
            with self._lock:
                self._asked.discard(question)
                is_late = question in self._held_up
                self._held_up.pop(question, None)
            question.over.set()
        if is_late and question.error is not None:
            _log.warning("%s", question.error)


class _Question:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.asker = threading.get_native_id()
        self.over = threading.Event()
        self.error: BaseException | None = None


def spent(thread: int) -> tuple[float, float]:
    """User and system seconds of threads that have ended, which asked for this one."""
    return _spent.get(thread, (0.0, 0.0))


_spent: dict[int, tuple[float, float]] = {}
_spending = threading.Lock()


def _spend(thread: int) -> None:
    used = resource.getrusage(resource.RUSAGE_THREAD)
    with _spending:
        user, system = _spent.get(thread, (0.0, 0.0))
        _spent[thread] = user + used.ru_utime, system + used.ru_stime


class Marker(Generic[T]):
    """Marks paths while it is on, each by one thread at a time, by calls that may be held up.

    `make` marks a path, without a lock. `keep` is given what it made, or `undo` if it was switched
    off meanwhile; `clear` undoes all that was kept, and `close` gives up what all of them use.
    These are called with `lock`, and nothing is called after `close`.
    """

    def __init__(
        self,
        make: Callable[[str], T],
        keep: Callable[[str, T], None],
        undo: Callable[[T], None],
        clear: Callable[[], None],
        close: Callable[[], None],
    ) -> None:
        self._make, self._keep, self._undo = make, keep, undo
        self._clear, self._close = clear, close
        self.lock = threading.Lock()
        self.on = self._closing = self._closed = False
        self._turn = 0  # how often it was switched on
        self._under_way: set[str] = set()

    def switch_on(self) -> None:
        """Let paths be marked from now on."""
        with self.lock:
            self.on = not self._closing
            self._turn += 1

    def switch_off(self) -> None:
        """Undo all marks, and those that are under way as soon as they are made."""
        with self.lock:
            self.on = False
            if not self._closed:
                self._clear()

    def close(self) -> None:
        """Switch it off for ever; the last who is held up gives up what it uses."""
        with self.lock:
            self.on, self._closing = False, True
            self._close_if_idle()

    def mark(self, paths: Iterable[str]) -> None:
        """Mark them, if it is on; a path that another thread is held up at is left to that one."""
        for path in paths:
            with self.lock:
                if not self.on or path in self._under_way:
                    continue
                self._under_way.add(path)
                turn = self._turn
            self._mark(path, turn)

    def _mark(self, path: str, turn: int) -> None:
        while True:
            try:
                made = self._make(path)
            except BaseException:
                with self.lock:
                    self._leave(path)
                raise
            with self.lock:
                if self.on and turn != self._turn:  # off and on again: it may be undone
                    turn = self._turn
                    continue
                if self.on:
                    self._keep(path, made)
                else:
                    self._undo(made)
                self._leave(path)
                return

    def _leave(self, path: str) -> None:
        self._under_way.discard(path)
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._closing and not self._closed and not self._under_way:
            self._closed = True
            self._close()
