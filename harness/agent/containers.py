"""Which container a record's cgroup is of, remembered while it lasts and after; used by collectors.

The kernel tells a cgroup's id, in cgroup v2 its directory's inode. When a record is read its cgroup
may be gone, so each is looked at when it is made: a thread follows the tree by inotify.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from argparse import ArgumentParser, Namespace
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from harness.agent import pods
from harness.agent.container import Container, of_path, of_process
from harness.agent.errors import AgentError
from harness.agent.inotify import Inotify
from harness.agent.libbpf import Object
from harness.agent.pods import Pods
from harness.agent.responder import Responder
from harness.agent.selected import Selected

KEPT_SECONDS = 180.0
"""How long the cgroups of a container are known after it is gone."""
MOST_GONE = 4096
_LOOK_SECONDS = 5.0  # between walks of the tree for a cgroup that is not known
_log = logging.getLogger("harness.agent")


def add_option(parser: ArgumentParser) -> None:
    """`--containers`: tell of each record which container and pod it is of; selectors of pods."""
    pods.add_options(parser)
    parser.add_argument(
        "--containers",
        action="store_true",
        help="tell of each record which container below the cgroup it is of",
    )


def asked(options: Namespace) -> Together:
    """Who follows the containers below `--cgroup`, if that was asked for."""
    if not options.containers:
        return chosen(options)
    return Containers(options.cgroup, pods=pods.asked(options))


def chosen(options: Namespace) -> Together:
    """Who follows them where pods are selected; else nobody does."""
    found = pods.asked(options)
    return Containers(options.cgroup, pods=found) if found else Together()


class Together:
    """Where containers are not told apart: every record is of none."""

    apart = False
    selects = False  # whether some pods are seen only

    def prepare(self, obj: Object, maps: Sequence[str], key_bytes: int, entries: int) -> None:
        """Let the programs tell cgroups, or not, before they are loaded.

        The maps whose keys end with one have no such end otherwise, and room for `entries` with it.
        """
        self.select(obj)
        obj.set("targ_containers", self.apart)
        for each in map(obj.map, maps):
            if self.apart:
                each.resize(entries)
            else:
                each.cut_keys(key_bytes)

    def select(self, obj: Object) -> None:
        """Let the programs see selected pods only, if there are such, before they are loaded."""

    def start(self, obj: Object) -> None:
        """Tell the programs, which are loaded, what is selected, from now on."""

    def sees(self, container: Container | None) -> bool:
        """Whether it is of a selected pod, or all are seen."""
        return True

    def turned(self) -> bool:
        """Whether what ran already was selected since this was asked."""
        return False

    def find(self, cgroup: int) -> Container | None:
        """The container that this cgroup is of, or was; None if it is of none."""
        return None

    def find_process(self, pid: int) -> Container | None:
        """The container that a process is in."""
        return of_process(pid) if self.apart else None

    def forgotten(self) -> dict[int, Container | None]:
        """The cgroups that went so long ago that they are known no more, each told once."""
        return {}

    def lasts(self, container: Container | None) -> bool:
        """Whether it still has a cgroup; what is of none has no end."""
        return container is None

    def look(self) -> None:
        """Walk the whole tree: at the start, and when something may have been missed."""

    def close(self) -> None:
        """End what follows it."""


class Containers(Together):
    """The cgroups below `scope` by their ids; `find` and `forgotten` are of any thread.

    With `pods` programs are told which of them are of selected ones.
    """

    apart = True

    def __init__(
        self, scope: Path, kept_seconds: float = KEPT_SECONDS, pods: Pods | None = None
    ) -> None:
        self._scope, self._pods, self._kept_seconds = scope, pods, kept_seconds
        self._selected, self._turned = Selected(), False
        self.selects = pods is not None
        self._lock = threading.RLock()
        self._known: dict[int, Container | None] = {}  # those that are there, and `_gone`
        self._there: dict[Path, tuple[int, int | None]] = {}  # id, and the watch on it
        self._folders: dict[int, Path] = {}  # by watch
        self._gone: OrderedDict[int, float] = OrderedDict()  # when each went
        self._looked, self._warned = 0.0, False
        self._inotify = Inotify()
        self.look()
        self._thread = Responder({self._inotify.fd: self._follow})
        if pods:
            pods.listen(self._changed)

    def select(self, obj: Object) -> None:
        """Before what is loaded sees anything."""
        if self._pods:
            self._selected.prepare(obj)

    def start(self, obj: Object) -> None:
        """Tell what is there."""
        with self._lock:
            if self._pods:
                self._selected.start(obj)
            for number in self._known:
                self._tell(number)

    def sees(self, container: Container | None) -> bool:
        """By what its pod is now."""
        return self._pods is None or (container is not None and self._pods.takes(container.pod))

    def turned(self) -> bool:
        """Of cgroups that were known before their pod was selected."""
        found, self._turned = self._turned, False
        return found

    def find(self, cgroup: int) -> Container | None:
        """By what was remembered, else by a look at what is there."""
        if not cgroup:
            return None
        with self._lock:
            if cgroup not in self._known:  # made this moment
                self._follow()
            if cgroup not in self._known and time.monotonic() - self._looked > _LOOK_SECONDS:
                self.look()
            return self._known.get(cgroup)

    def forgotten(self) -> dict[int, Container | None]:
        """Forget, and tell which."""
        with self._lock:
            oldest = time.monotonic() - self._kept_seconds
            found: dict[int, Container | None] = {}
            while self._gone:
                cgroup, went = next(iter(self._gone.items()))
                if went > oldest and len(self._gone) <= MOST_GONE:
                    break
                del self._gone[cgroup]
                found[cgroup] = self._known.pop(cgroup, None)
                self._selected.put(cgroup, False)
            return found

    def lasts(self, container: Container | None) -> bool:
        """By what is there now."""
        with self._lock:
            there = (each for number, each in self._known.items() if number not in self._gone)
            return container is None or container in there

    def look(self) -> None:
        """Take what came, and what went, since."""
        with self._lock:
            self._looked = time.monotonic()
            for path in [path for path in self._there if not path.is_dir()]:
                self._went(path)
            self._came(self._scope)

    def close(self) -> None:
        """End the thread."""
        if self._pods:
            self._pods.leave(self._changed)
        with self._lock:
            self._selected.close()
        if self._thread.close():
            self._inotify.close()

    def _follow(self) -> None:
        with self._lock:
            for change in self._inotify.read():
                folder = self._folders.get(change.watch)
                if folder is not None:
                    (self._came if change.made else self._went)(folder / change.name)
            if self._inotify.overflowed:
                self._inotify.overflowed = False
                self.look()

    def _changed(self, uids: set[str]) -> None:
        with self._lock:
            for number, container in self._known.items():
                if container is not None and container.pod in uids:
                    self._turned |= self._tell(number)

    def _tell(self, number: int) -> bool:
        return self._pods is not None and self._selected.put(number, self.sees(self._known[number]))

    def _came(self, path: Path) -> None:
        """Remember a cgroup and watch it, then those that were made in it meanwhile."""
        try:
            number = os.stat(path).st_ino
        except OSError:  # it is gone again
            return
        if path in self._there and self._there[path][0] != number:
            self._went(path)
        watch = self._watch(path)
        self._there[path] = number, watch
        self._known[number] = of_path(str(path.relative_to(self._scope)))
        self._tell(number)
        self._gone.pop(number, None)  # a deletion that was read late was of the one before it
        if watch is not None:
            self._folders[watch] = path
        with contextlib.suppress(OSError):
            for each in os.scandir(path):
                if each.is_dir(follow_symlinks=False):
                    self._came(Path(each.path))

    def _watch(self, path: Path) -> int | None:
        try:
            return self._inotify.watch(path)
        except AgentError as error:  # what is made in there is found by a walk, if it lasts
            if not self._warned:
                self._warned = True
                _log.warning("%s", error)
            return None

    def _went(self, path: Path) -> None:
        number, watch = self._there.pop(path, (None, None))
        if number is None:
            return
        self._gone[number] = time.monotonic()
        if watch is not None:
            self._folders.pop(watch, None)
