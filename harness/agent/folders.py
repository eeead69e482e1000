"""Tells when a file may have come to a folder, or another one in its place; used by `policy_maps`.

A rule for a file names a path. Who writes it anew and renames it over, as editors, packages and
Kubernetes do, leaves another file there, of which fanotify's marks know nothing; and a path with
`*` stands for files that come later. inotify tells at once, without waiting for a timer.
A file system may not answer who watches a folder of it: no lock is held then.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Mapping
from pathlib import Path

from harness.agent import bounded
from harness.agent.bounded import Marker
from harness.agent.errors import AgentError
from harness.agent.inotify import MOVED_TO, Change, Inotify

_log = logging.getLogger("harness.agent")


class Folders:
    """Watches folders while it is on; an Attachment. `fd` is readable when something came."""

    hook = "inotify"

    def __init__(self) -> None:
        self._warned = False
        self._wanted: Mapping[str, set[str]] = {}
        self._watches: dict[str, int] = {}  # by folder
        self._folders: dict[int, set[str]] = {}  # by watch: one folder may have several paths
        self._inotify = Inotify(files=True)
        self.fd = self._inotify.fd
        self._marker = Marker(
            make=self._make,
            keep=self._keep,
            undo=self._undo,
            clear=self._clear,
            close=lambda: self._inotify.close(),
        )

    def aim(self, wanted: Mapping[str, set[str]]) -> bool:
        """Watch these folders for these names, which may have `*`, and no others.

        Whether some are watched from now on: what came to them before was not heard of. It returns
        when all are watched: never, if a file system never answers.
        """
        with self._marker.lock:
            self._wanted, before = wanted, set(self._folders)
        self._marker.mark(wanted)
        with self._marker.lock:
            for folder in self._watches.keys() - self._wanted.keys():  # another one's by now
                self._drop(folder)
            return bool(self._folders.keys() - before)

    def attach(self) -> None:
        """Watch; folders of a file system that does not answer come later."""
        self._marker.switch_on()
        with self._marker.lock:
            wanted = self._wanted
        if not bounded.take(lambda: self._marker.mark(wanted)):
            _log.warning(bounded.HELD_UP)

    def destroy(self) -> None:
        """Watch nothing."""
        self._marker.switch_off()

    def close(self) -> None:
        """Give up all watches."""
        self._marker.close()

    def changed(self) -> bool:
        """Whether that concerns what is waited for; takes what waits to be read."""
        changes = self._inotify.read()
        with self._marker.lock:
            overflowed, self._inotify.overflowed = self._inotify.overflowed, False
            return self._marker.on and (overflowed or any(map(self._concerns, changes)))

    def _concerns(self, change: Change) -> bool:
        folders = self._folders.get(change.watch, set())
        if change.mask & MOVED_TO:  # by any name: a link on the way may lead elsewhere now
            return bool(folders)
        names = (name for folder in folders for name in self._wanted.get(folder, ()))
        return any(fnmatch.fnmatchcase(change.name, each) for each in names)

    def _make(self, folder: str) -> int | None:
        try:
            return self._inotify.watch(Path(folder))
        except AgentError as error:  # the timer lists the files anew, too
            if not self._warned:
                self._warned = True
                _log.warning("%s", error)
            return None

    def _keep(self, folder: str, watch: int | None) -> None:
        if watch is not None and watch == self._watches.get(folder):
            return
        self._drop(folder)
        if watch is None:
            return
        if folder in self._wanted:
            self._watches[folder] = watch
            self._folders.setdefault(watch, set()).add(folder)
        else:
            self._undo(watch)

    def _undo(self, watch: int | None) -> None:
        if watch is not None and watch not in self._folders:
            self._inotify.forget(watch)

    def _drop(self, folder: str) -> None:
        watch = self._watches.pop(folder, None)
        if watch is not None:
            self._folders[watch].discard(folder)
            if not self._folders[watch]:
                del self._folders[watch]
                self._inotify.forget(watch)

    def _clear(self) -> None:
        for each in self._folders:
            self._inotify.forget(each)
        self._watches, self._folders = {}, {}
