"""Opened files where BPF cannot hook them: fanotify marks on the policy's files; used by guard.

A mark is on the file, so every opener on the host causes an event; who is not of the cgroup is
left out here. Nobody waits and nobody is woken for rules that report: events are read by the
timer, and the kernel half remembers who of the cgroup has ended by then. Openers of a file with a
`kill` rule do wait for an answer, which others get at once.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import os
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.agent import cgroup
from harness.agent.fanotify import Group, Opened
from harness.agent.maps import Map
from harness.agent.policy import ACTIONS, Rule
from harness.agent.responder import kill
from harness.agent.telemetry import Log, Value

_ENDED = struct.Struct("=QI16s4x")  # struct ended
_REFRESH_SECONDS = 10.0


class Opens:
    """Watches the files of the open rules while it is on; an Attachment."""

    def __init__(self, scope: Path, rules: Sequence[Rule], ended: Map) -> None:
        self._scope, self._rules, self._ended = scope, rules, ended
        asks = any(rule.event == "open" and rule.action == "kill" for rule in rules)
        self.told = Group(asks=False)
        self.asked = Group(asks=True) if asks else None
        self.hook = "fanotify/open_perm" if asks else "fanotify/open"
        self.events = 0
        self._on = False
        self._lock = threading.Lock()  # a refresh must not mark what `off` has just unmarked
        self._denied: deque[Log] = deque()
        self._marked: dict[tuple[int, int], tuple[str, int]] = {}  # file -> path, index of rule
        self._files = listed(rules, scope)
        self._listed_at = time.monotonic()

    def attach(self) -> None:
        """Mark the files that are there."""
        with self._lock:
            self._on = True
            self._mark()

    def destroy(self) -> None:
        """Remove the marks."""
        with self._lock:
            self._on = False
            for group in self._groups():
                group.unmark()

    def collect(self) -> list[Log]:
        """What the cgroup's processes opened; also follows files that were replaced."""
        opened = [(each.pid, self._path_and_rule(each)) for each in self.told.read()]
        members = set(cgroup.pids(self._scope)) if opened else set()
        logs = [self._denied.popleft() for _ in range(len(self._denied))]
        for pid, (path, rule) in opened:
            process = _running(pid) if pid in members else self._remembered(pid)
            if process is not None:
                logs.append(_log(process, path, self._rules[rule]))
        self.events += len(logs)
        if time.monotonic() - self._listed_at > _REFRESH_SECONDS:
            self._refresh()
        return logs

    def answer(self) -> None:
        """Let strangers pass, deny and kill processes of the cgroup; called when one waits."""
        assert self.asked is not None
        for opened in self.asked.read():
            allow = True
            try:
                allow = opened.pid not in cgroup.pids(self._scope)
                if not allow:
                    path, rule = self._path_and_rule(opened)
                    self._denied.append(_log(_running(opened.pid), path, self._rules[rule]))
                    kill(opened.pid, self._scope)
            finally:
                self.asked.answer(opened, allow=allow)

    def lost(self) -> int:
        """How often the kernel's queue was full."""
        return sum(group.lost for group in self._groups())

    def close(self) -> None:
        """Give up the groups."""
        for group in self._groups():
            group.close()

    def _groups(self) -> list[Group]:
        return [self.told] if self.asked is None else [self.told, self.asked]

    def _mark(self) -> None:
        for path, (shown, rule) in self._files.items():
            kills = self._rules[rule].action == "kill"
            group = self.asked if kills and self.asked is not None else self.told
            identity = group.mark(path)
            if identity is not None:
                self._marked[identity] = shown, rule

    def _refresh(self) -> None:
        self._listed_at = time.monotonic()
        files = listed(self._rules, self._scope)
        with self._lock:
            self._files = files
            if self._on:
                self._mark()

    def _path_and_rule(self, opened: Opened) -> tuple[str, int]:
        first = next(i for i, rule in enumerate(self._rules) if rule.event == "open")
        return self._marked.get(opened.file, (opened.path, first))

    def _remembered(self, pid: int) -> dict[str, Value] | None:
        value = self._ended.lookup(pid.to_bytes(4, "little"))
        if value is None:
            return None
        _, parent, comm = _ENDED.unpack(value)
        return {
            "process.pid": pid,
            "process.parent_pid": parent,
            "process.executable.name": comm.split(b"\0", 1)[0].decode(errors="replace"),
        }


def listed(rules: Sequence[Rule], scope: Path) -> dict[str, tuple[str, int]]:
    """The files that the open rules stand for: where to mark -> path to show, index of rule.

    Containers of the cgroup have files of their own, which are reached through their root.
    """
    found: dict[str, tuple[str, int]] = {}
    for root in _roots(scope):
        for index, rule in enumerate(rules):
            if rule.event != "open":
                continue
            for path in _expanded(root, rule.match):
                shown = path.removeprefix(root)
                present = found.get(path)
                if present is None or _strictness(rules[present[1]]) < _strictness(rule):
                    found[path] = shown, index
    ignored = [
        p for rule in rules if rule.event == "open" and rule.action == "ignore" for p in rule.match
    ]
    return {
        path: entry
        for path, entry in found.items()
        if not any(fnmatch.fnmatchcase(entry[0], pattern) for pattern in ignored)
    }


def _strictness(rule: Rule) -> int:
    return ACTIONS[rule.action]


def _expanded(root: str, patterns: Sequence[str]) -> Iterator[str]:
    for pattern in patterns:
        if glob.has_magic(pattern):
            yield from filter(os.path.isfile, glob.glob(root + pattern, include_hidden=True))
        else:
            yield root + pattern


def _roots(scope: Path) -> Iterator[str]:
    seen = {_identity("/")}
    yield ""
    for pid in cgroup.pids(scope):
        root = f"/proc/{pid}/root"
        with contextlib.suppress(OSError):
            identity = _identity(root + "/")
            if identity not in seen:
                seen.add(identity)
                yield root


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _running(pid: int) -> dict[str, Value]:
    process: dict[str, Value] = {"process.pid": pid}
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        comm, _, rest = stat.partition("(")[2].rpartition(")")
        process["process.executable.name"] = comm
        process["process.parent_pid"] = int(rest.split()[1])
        process["process.executable.path"] = os.readlink(f"/proc/{pid}/exe")
    return process


def _log(process: Mapping[str, Value], path: str, rule: Rule) -> Log:
    told = {"file.path": path, "guard.rule": rule.name, "guard.action": rule.action}
    return Log("file.open", time.monotonic_ns(), {**process, **told})
