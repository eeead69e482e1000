"""Denies files that `kill` rules name: an answerer, and another one when it ended; used by opens.

An answerer is asked by one thread at a time, and answers or is given up within seconds. It may be
held up itself, by a file system: who only switches it off or asks what it did does not wait longer
than bounded.WAIT_SECONDS, and whoever asks it then does the rest. One that ends again and again, as
where a file system does not answer, is started again ever more seldom.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.agent import bounded
from harness.agent.answerer_process import AnswererProcess
from harness.agent.errors import AgentError
from harness.agent.fanotify import File

_AT_ONCE = 3  # how often one that did not last is replaced at once
_LASTED_SECONDS = _MOST_PAUSE_SECONDS = 60.0
_log = logging.getLogger("harness.agent")


class Denier:
    """The answerer for the cgroup `scope`. `restarts` is how often there was another one."""

    def __init__(self, scope: Path) -> None:
        self._scope = scope
        self._answerer = AnswererProcess(scope)
        self.restarts = 0
        self._lost = 0  # by answerers that have ended
        self._late: list[dict[str, Any]] = []  # denials that these told
        self._began = self._seen_alive = time.monotonic()
        self._brief = 0  # how many ended one after the other that had not lasted
        self._due = 0.0  # before that no other one is started
        self._asking = threading.Lock()
        self._on = self._marked = self._closing = self._closed = False

    @property
    def lost(self) -> int:
        """Denials that could not be told."""
        return self._lost + self._answerer.lost

    def switch_on(self) -> None:
        """Let files be marked from now on."""
        self._on = True

    def switch_off(self) -> None:
        """Let nobody wait any more."""
        self._on = False
        with self._alone(bounded.WAIT_SECONDS):
            pass

    def close(self) -> None:
        """End it."""
        self._on, self._closing = False, True
        with self._alone(bounded.WAIT_SECONDS):
            pass

    def mark(self, paths: Sequence[str]) -> dict[str, File]:
        """Let openers of these files wait, if it is on; the identities of those that are there.

        AgentError if there is no answerer, and none can be started.
        """
        with self._alone():
            return self._mark(paths)

    def revive(self, paths: Sequence[str]) -> dict[str, File]:
        """Mark them by another answerer, if there is none any more."""
        with self._alone(bounded.WAIT_SECONDS) as alone:
            if alone and self._answerer.alive:
                self._seen_alive = time.monotonic()
            elif alone and time.monotonic() >= self._due:
                self._start_another()
                return self._mark(paths)
            return {}

    def denials(self) -> list[dict[str, Any]]:
        """Whom which file was denied since the last time."""
        with self._alone(bounded.WAIT_SECONDS) as alone:
            if not alone:
                return []
            told, self._late = self._late, []
            return told + self._answerer.denials()

    @contextmanager
    def _alone(self, seconds: float = -1) -> Iterator[bool]:
        """Whether nobody else asks it; at the end it is as it was wanted meanwhile."""
        alone = self._asking.acquire(timeout=seconds)
        try:
            yield alone
        finally:
            if alone:
                try:
                    self._settle()
                finally:
                    self._asking.release()

    def _settle(self) -> None:
        if self._closing and not self._closed:
            self._closed = True
            self._answerer.close()
        elif self._marked and not self._on and not self._closed:
            self._marked = False
            self._answerer.unmark()

    def _mark(self, paths: Sequence[str]) -> dict[str, File]:
        wanted = self._on and bool(paths)
        if not wanted:
            return {}
        self._marked = True
        try:
            found = self._answerer.mark(paths)
        except AgentError:  # it has ended meanwhile
            if self._on and time.monotonic() < self._due:
                raise
            if self._on:
                self._start_another()
            if not self._on:  # or no more: nobody would take the marks away again
                return {}
            found = self._answerer.mark(paths)
        pairs = zip(paths, found, strict=True)
        return {path: identity for path, identity in pairs if identity is not None}

    def _start_another(self) -> None:
        """Start the answerer anew; its marks are to be made again."""
        old = self._answerer
        old.end()
        self._late += old.denials()
        lasted = self._seen_alive - self._began > _LASTED_SECONDS
        self._brief = 1 if lasted else self._brief + 1
        pause = min(2.0 ** (self._brief - _AT_ONCE), _MOST_PAUSE_SECONDS)
        pause = pause if self._brief >= _AT_ONCE else 0.0
        _log.warning(
            "The process that denies files %s. Until there is another one, which is started now, "
            "every process can open them.%s",
            old.ending(),
            f" If that one ends, too, the next is started in {pause:.0f} s: a file system that "
            "does not answer may be why."
            if pause
            else "",
        )
        self._began = self._seen_alive = time.monotonic()
        self._due = self._began + pause
        self._answerer = AnswererProcess(self._scope)
        self._lost += old.lost
        self.restarts += 1
        old.close()
