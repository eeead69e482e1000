"""Opened files where BPF cannot hook them: fanotify marks on the policy's files; used by guard.

A mark is on the file, so every opener on the host causes an event; who is not of the cgroup is
left out here. Nobody waits and nobody is woken for rules that report: events are read by the
timer, and the kernel half remembers who of the cgroup has ended by then. Openers of a file with a
`kill` rule do wait: for the answerer, a process of its own, so that nothing that happens in this
one keeps them waiting (docs/adr/0007). If it ends, it is started again here.
Which files these are is told by `watch`, again and again: another one of the same name has no mark.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.agent import cgroup, opener
from harness.agent.answerer_process import AnswererProcess
from harness.agent.container import Container
from harness.agent.containers import Together
from harness.agent.errors import AgentError
from harness.agent.fanotify import File, Group
from harness.agent.files import Watched
from harness.agent.maps import Map
from harness.agent.policy import Rule
from harness.agent.telemetry import Log, Value
from harness.agent.text import text

_ENDED = struct.Struct("=QQI16s4x")  # struct ended
_log = logging.getLogger("harness.agent")


class Opens:
    """Watches the files of the open rules while it is on; an Attachment."""

    def __init__(
        self,
        scope: Path,
        rules: Sequence[Rule],
        ended: Map,
        containers: Together,
    ) -> None:
        self._scope, self._rules, self._ended = scope, rules, ended
        self._containers = containers
        self._told = Group(asks=False)
        asks = any(rule.event == "open" and rule.action == "kill" for rule in rules)
        if asks and containers.selects:
            raise AgentError(
                "No file can be denied to selected pods only on this kernel.",
                "It has no BPF LSM and no fentry, and fanotify does not tell pods in time.",
                "Take the rules for `open` with the action `kill` out, or select no pods.",
            )
        self._answerer = AnswererProcess(scope) if asks else None
        self.hook = "fanotify/open_perm" if asks else "fanotify/open"
        self.events: Counter[str] = Counter()  # by what was done
        self.restarts = 0
        self._lost = 0  # by answerers that have ended
        self._late: list[dict[str, Any]] = []  # denials that these told
        self._on = False
        self._lock = threading.Lock()  # a refresh must not mark what `off` has just unmarked
        self._marked: dict[File, tuple[str, int]] = {}  # -> path to show, index of rule
        self._files: Mapping[str, Watched] = {}
        self._read_at_ns = 0

    def attach(self) -> None:
        """Mark the files that are there."""
        with self._lock:
            self._on = True
            self._mark()

    def destroy(self) -> None:
        """Remove the marks."""
        with self._lock:
            self._on = False
            self._told.unmark()
            if self._answerer is not None:
                self._answerer.unmark()

    def watch(self, files: Mapping[str, Watched]) -> None:
        """Take the files that are under these names now; those before keep their marks."""
        with self._lock:
            self._files = files
            if self._on:
                self._mark()

    def collect(self) -> list[Log]:
        """What the cgroup's processes opened."""
        logs = [*self._denied(), *self._opened()]
        self.events.update(str(log.attributes["guard.action"]) for log in logs)
        try:
            self._revive()
        except AgentError as error:  # the next time, perhaps
            _log.warning("%s", error)
        return logs

    def lost(self) -> dict[str, int]:
        """How often the kernel's queue was full, and denials that could not be told."""
        current = 0 if self._answerer is None else self._answerer.lost
        return {"report": self._told.lost, "kill": self._lost + current}

    def close(self) -> None:
        """Give up the groups."""
        with self._lock:
            self._told.close()
            if self._answerer is not None:
                self._answerer.close()

    def _denied(self) -> Iterator[Log]:
        with self._lock:
            told, self._late = self._late, []
            told += self._answerer.denials() if self._answerer is not None else []
        for each in told:
            path, rule = self._path_and_rule(tuple(each["file"]), each["path"], "kill")
            yield _event(each["at_ns"], each["process"], path, self._rules[rule])

    def _opened(self) -> Iterator[Log]:
        opened, since_ns, self._read_at_ns = [], self._read_at_ns, time.monotonic_ns()
        while some := self._told.read():
            opened += [(e.pid, self._path_and_rule(e.file, e.path, "report")) for e in some]
        members = set(cgroup.pids(self._scope)) if opened else set()
        for pid, (path, rule) in opened:
            process, of = self._running(pid) if pid in members else self._remembered(pid, since_ns)
            if process and self._containers.sees(of):
                log = _event(time.monotonic_ns(), process, path, self._rules[rule])
                yield replace(log, container=of)

    def _running(self, pid: int) -> tuple[Mapping[str, Value], Container | None]:
        return opener.described(pid), self._containers.find_process(pid)

    def _mark(self) -> None:
        asked = [path for path, file in self._files.items() if self._kills(file.rule)]
        told = [path for path, file in self._files.items() if not self._kills(file.rule)]
        found = [*map(self._told.mark, told), *self._asked(asked)]
        for path, identity in zip([*told, *asked], found, strict=True):
            if identity is not None:
                self._marked[identity] = self._files[path].shown, self._files[path].rule

    def _asked(self, paths: Sequence[str]) -> Sequence[File | None]:
        if self._answerer is None:
            return []
        try:
            return self._answerer.mark(paths)
        except AgentError:  # it has ended meanwhile
            return self._another().mark(paths)

    def _kills(self, rule: int) -> bool:
        return self._answerer is not None and self._rules[rule].action == "kill"

    def _another(self) -> AnswererProcess:
        """Start the answerer anew; its marks are to be made again."""
        old = self._answerer
        assert old is not None
        old.end()
        self._late += old.denials()
        _log.warning(
            "The process that denies files %s. Until there is another one, which is started now, "
            "every process can open them.",
            old.ending(),
        )
        another = self._answerer = AnswererProcess(self._scope)
        self._lost += old.lost
        self.restarts += 1
        old.close()
        return another

    def _revive(self) -> None:
        with self._lock:
            if self._answerer is not None and not self._answerer.alive:
                self._another()
                if self._on:
                    self._mark()

    def _path_and_rule(self, file: File, path: str, action: str) -> tuple[str, int]:
        """What is shown of a file, and its rule; a mark may be gone already, a rule is not."""
        if file in self._marked:
            return self._marked[file]
        rules = list(enumerate(self._rules))
        opens = [index for index, rule in rules if rule.event == "open"]
        return path, next((i for i in opens if self._rules[i].action == action), opens[0])

    def _remembered(self, pid: int, since_ns: int) -> tuple[Mapping[str, Value], Container | None]:
        value = self._ended.lookup(pid.to_bytes(4, "little"))
        if value is None:
            return {}, None
        ended_ns, group, parent, comm = _ENDED.unpack(value)
        if ended_ns < since_ns:  # what it opened was read: this is another one with its number
            return {}, None
        process: dict[str, Value] = {
            "process.pid": pid,
            "process.parent_pid": parent,
            "process.executable.name": text(comm.split(b"\0", 1)[0]),
        }
        return process, self._containers.find(group)


def _event(at_ns: int, process: Mapping[str, Value], path: str, rule: Rule) -> Log:
    told = {"file.path": path, "guard.rule": rule.name, "guard.action": rule.action}
    return Log("file.open", at_ns, {**process, **told})
