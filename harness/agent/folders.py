"""Tells when a file may have come to a folder, or another one in its place; used by `policy_maps`.

A rule for a file names a path. Who writes it anew and renames it over, as editors, packages and
Kubernetes do, leaves another file there, of which fanotify's marks know nothing; and a path with
`*` stands for files that come later. inotify tells at once, without waiting for a timer.
"""

from __future__ import annotations

import fnmatch
import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from harness.agent.errors import AgentError
from harness.agent.inotify import MOVED_TO, Change, Inotify

_log = logging.getLogger("harness.agent")


class Folders:
    """Watches folders while it is on; an Attachment. `fd` is readable when something came."""

    hook = "inotify"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._on = self._warned = False
        self._wanted: Mapping[str, set[str]] = {}
        self._names: dict[int, set[str]] = {}  # what is waited for, by watch
        self._inotify = Inotify(files=True)
        self.fd = self._inotify.fd

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
        """Give up all watches."""
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

    def changed(self) -> bool:
        """Whether that concerns what is waited for; takes what waits to be read."""
        changes = self._inotify.read()
        with self._lock:
            overflowed, self._inotify.overflowed = self._inotify.overflowed, False
            return self._on and (overflowed or any(map(self._concerns, changes)))

    def _concerns(self, change: Change) -> bool:
        if change.mask & MOVED_TO:  # by any name: a link on the way may lead elsewhere now
            return change.watch in self._names
        names = self._names.get(change.watch, ())
        return any(fnmatch.fnmatchcase(change.name, each) for each in names)
