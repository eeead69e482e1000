"""Says when a file may have come to a folder, or another one in its place; used by `guard`.

A rule for a file names a path. Who writes it anew and renames it over, as editors, packages and
Kubernetes do, leaves another file there, of which fanotify's marks know nothing; and a path with
`*` stands for files that come later. A thread hears of it by inotify, without waiting for a timer.
"""

from __future__ import annotations

import fnmatch
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.agent.errors import AgentError
from harness.agent.inotify import MOVED_TO, Change, Inotify
from harness.agent.responder import Responder

_PAUSE = 4  # times as long as a look took: who makes many files does not keep a CPU busy here
_log = logging.getLogger("harness.agent")


class Folders:
    """Calls `changed`, in a thread of its own, while it is on; an Attachment."""

    hook = "inotify"

    def __init__(self, changed: Callable[[], object]) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._on = self._warned = False
        self._wanted: Mapping[str, set[str]] = {}
        self._names: dict[int, set[str]] = {}  # what is waited for, by watch
        self._inotify = Inotify(files=True)
        self._thread = Responder({self._inotify.fd: self._follow})

    def aim(self, wanted: Mapping[str, set[str]]) -> bool:
        """Watch these folders for these names, which may have `*`, and no others.

        Whether some are watched from now on: what came to them before was not heard of.
        """
        with self._lock:
            self._wanted, before = wanted, self._names.keys()
            if self._on:
                self._watch()
            return bool(self._names.keys() - before)

    def attach(self) -> None:
        """Watch."""
        with self._lock:
            self._on = True
            self._watch()

    def destroy(self) -> None:
        """Watch nothing."""
        with self._lock:
            self._on = False
            for each in self._names:
                self._inotify.forget(each)
            self._names = {}

    def close(self) -> None:
        """End the thread."""
        self._thread.close()
        self._inotify.close()

    def _watch(self) -> None:
        found: dict[int, set[str]] = {}
        for folder, names in self._wanted.items():
            try:
                watch = self._inotify.watch(Path(folder))
            except AgentError as error:  # the timer lists the files anew, too
                if not self._warned:
                    self._warned = True
                    _log.warning("%s", error)
                continue
            if watch is not None:
                found.setdefault(watch, set()).update(names)
        for each in self._names.keys() - found.keys():
            self._inotify.forget(each)
        self._names = found

    def _follow(self) -> None:
        began = time.monotonic()
        changes = self._inotify.read()
        with self._lock:
            concerned = self._on and (self._inotify.overflowed or any(map(self._concerns, changes)))
            self._inotify.overflowed = False
        if concerned:
            self._changed()
        time.sleep(_PAUSE * (time.monotonic() - began))

    def _concerns(self, change: Change) -> bool:
        if change.mask & MOVED_TO:  # by any name: a link on the way may lead elsewhere now
            return change.watch in self._names
        names = self._names.get(change.watch, ())
        return any(fnmatch.fnmatchcase(change.name, each) for each in names)
