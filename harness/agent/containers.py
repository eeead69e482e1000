"""Which container a record's cgroup is of, remembered while it lasts and after; used by collectors.

The kernel tells a cgroup's id, in cgroup v2 its directory's inode. When a record is read its cgroup
may be gone, so each is looked at when it is made: a thread follows the tree by inotify.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from argparse import ArgumentParser, Namespace
from collections import OrderedDict
from pathlib import Path

from harness.agent import pods
from harness.agent.cgroup import folders
from harness.agent.container import Container, of_path, of_process
from harness.agent.errors import AgentError
from harness.agent.inotify import Change, Inotify
from harness.agent.libbpf import Object
from harness.agent.pods import Pods
from harness.agent.responder import Responder
from harness.agent.selected import Selected
from harness.agent.together import Together

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
    return Containers(options.cgroup, pods=found, apart=False) if found else Together()


class Containers(Together):
    """The cgroups below `scope` by their ids; `find` and `forgotten` are of any thread.

    With `pods` programs are told which of them are of selected ones. If not `apart`, that is all
    that they are followed for: every record is of none.
    """

    def __init__(
        self,
        scope: Path,
        kept_seconds: float = KEPT_SECONDS,
        pods: Pods | None = None,
        *,
        apart: bool = True,
    ) -> None:
        self._scope, self._pods, self._kept_seconds = scope, pods, kept_seconds
        self.apart = apart
        self._selected, self._turned = Selected(), False
        self.selects = pods is not None
        self._lock = threading.RLock()
        self._known: dict[int, Container | None] = {}  # those that are there, and `_gone`
        self._there: dict[Path, tuple[int, int | None]] = {}  # id, and the watch on it
        self._folders: dict[int, Path] = {}  # by watch
        self._gone: OrderedDict[int, float] = OrderedDict()  # when each went
        self._looked, self._warned = 0.0, False
        self._unwatched = False  # whether what is made somewhere is not told
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

    def sees_process(self, pid: int) -> bool:
        """By the pod that it is in now."""
        return self._pods is None or self._takes(of_process(pid))

    def turned(self) -> bool:
        """Of cgroups that were there before the programs knew that their pod is selected."""
        found, self._turned = self._turned, False
        return found

    def find(self, cgroup: int) -> Container | None:
        """By what was remembered, else by a look at what is there."""
        if not cgroup or not self.apart:
            return None
        with self._lock:
            if cgroup not in self._known:  # made this moment
                self._follow()
            if cgroup not in self._known:
                self._look_again()
            return self._known.get(cgroup)

    def forgotten(self) -> dict[int, Container | None]:
        """Forget, and tell which; every collector asks, so this walks where nothing tells."""
        with self._lock:
            if self._unwatched:
                self._look_again()
            oldest = time.monotonic() - self._kept_seconds
            found: dict[int, Container | None] = {}
            while self._gone:
                cgroup, went = next(iter(self._gone.items()))
                if went > oldest and len(self._gone) <= MOST_GONE:
                    break
                del self._gone[cgroup]
                found[cgroup] = self._known.pop(cgroup, None)
                self._turned |= self._selected.put(cgroup, False)
            return found if self.apart else {}

    def lasts(self, container: Container | None) -> bool:
        """By what is there now."""
        with self._lock:
            there = (each for number, each in self._known.items() if number not in self._gone)
            return container is None or container in there

    def look(self) -> None:
        """Take what came, and what went, since."""
        with self._lock:
            self._looked, self._unwatched = time.monotonic(), False
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
            missed = False
            for change in self._inotify.read():
                missed |= not self._took(change)
            if missed or self._inotify.overflowed:
                self._inotify.overflowed = False
                self.look()

    def _took(self, change: Change) -> bool:
        folder = self._folders.get(change.watch)
        try:
            if folder is not None:
                (self._came if change.made else self._went)(folder / change.name)
        except Exception:  # the changes after it are told once
            _log.exception("A cgroup that came or went is looked for again.")
            return False
        return True

    def _look_again(self) -> None:
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self.look()

    def _changed(self, uids: set[str]) -> None:
        with self._lock:
            for number, container in self._known.items():
                if container is not None and container.pod in uids:
                    self._turned |= self._tell(number)

    def _takes(self, container: Container | None) -> bool:
        return bool(self._pods and container is not None and self._pods.takes(container.pod))

    def _tell(self, number: int) -> bool:
        if self._pods is None:
            return False
        return self._selected.put(number, self._takes(self._known[number]))

    def _came(self, path: Path) -> None:
        """Remember a cgroup and watch it, then those that were made in it meanwhile."""
        for each in folders(path):
            self._remember(each)

    def _remember(self, path: Path) -> None:
        try:
            number = os.stat(path).st_ino
        except OSError:  # it is gone again
            return
        if path in self._there and self._there[path][0] != number:
            self._went(path)
        watch = self._watch(path)
        self._there[path] = number, watch
        self._known[number] = of_path(str(path.relative_to(self._scope)))
        self._turned |= self._tell(number)  # it may have connections already
        self._gone.pop(number, None)  # a deletion that was read late was of the one before it
        if watch is not None:
            self._folders[watch] = path

    def _watch(self, path: Path) -> int | None:
        try:
            return self._inotify.watch(path)
        except AgentError as error:  # what is made in there is found by a walk, if it lasts
            self._unwatched = True
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
