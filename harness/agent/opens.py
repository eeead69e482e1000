"""Opened files where BPF cannot hook them: fanotify marks on the policy's files; used by guard.

A mark is on the file, so every opener on the host causes an event; who is not of the cgroup is
left out here. Nobody waits and nobody is woken for rules that report: events are read by the
timer, and the kernel half remembers who of the cgroup has ended by then (ended.py). Openers of a
file with a `kill` rule do wait: for the answerer, a process of its own, so that nothing that
happens in this one keeps them waiting (docs/adr/0007).
Which files these are is told by `watch`, again and again: another one of the same name has no mark.
A file system may not answer who marks a file of it: no lock is held then, and no end waits for it.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.agent import bounded, cgroup, opener
from harness.agent.bounded import Marker
from harness.agent.container import Container
from harness.agent.denier import Denier
from harness.agent.ended import Ended
from harness.agent.errors import AgentError
from harness.agent.fanotify import File, Group
from harness.agent.files import Watched
from harness.agent.policy import Rule
from harness.agent.telemetry import Log, Value
from harness.agent.together import Together

_KEPT = 1024  # files that were meant before: what was opened of them may not be read yet
_log = logging.getLogger("harness.agent")


class Opens:
    """Watches the files of the open rules while it is on; an Attachment."""

    def __init__(
        self,
        scope: Path,
        rules: Sequence[Rule],
        ended: Ended,
        containers: Together,
        executable: Callable[[int, int], Mapping[str, Value]],
    ) -> None:
        self._scope, self._rules, self._ended = scope, rules, ended
        self._containers, self._executable = containers, executable
        self._told = Group(asks=False)
        asks = any(rule.event == "open" and rule.action == "kill" for rule in rules)
        if asks and containers.selects:
            raise AgentError(
                "No file can be denied to selected pods only on this kernel.",
                "It has no BPF LSM and no fentry, and fanotify does not tell pods in time.",
                "Take the rules for `open` with the action `kill` out, or select no pods.",
            )
        self._denier = Denier(scope) if asks else None
        self.hook = "fanotify/open_perm" if asks else "fanotify/open"
        self.events: Counter[str] = Counter()  # by what was done
        self._forgotten = 0  # of those who may have been of the cgroup
        self._marked: dict[File, tuple[str, int]] = {}  # -> path to show, index of rule
        self._files: Mapping[str, Watched] = {}
        self._read_at_ns = 0
        self._marker = Marker(
            make=lambda path: self._told.mark(path),
            keep=self._keep,
            undo=lambda _: self._told.unmark(),  # of others there are none: it is off
            clear=lambda: self._told.unmark(),
            close=lambda: self._told.close(),
        )

    @property
    def restarts(self) -> int:
        """How often whoever denies files was started again."""
        return 0 if self._denier is None else self._denier.restarts

    def attach(self) -> None:
        """Mark the files that are there; those of a file system that does not answer come later."""
        self._marker.switch_on()
        if self._denier is not None:
            self._denier.switch_on()
        if not bounded.take(self._mark):
            _log.warning(bounded.HELD_UP)

    def destroy(self) -> None:
        """Remove the marks."""
        self._marker.switch_off()
        if self._denier is not None:
            self._denier.switch_off()

    def watch(self, files: Mapping[str, Watched]) -> None:
        """Take the files that are under these names now; those before keep their marks.

        It returns when all are marked: never, if a file system never answers.
        """
        with self._marker.lock:
            self._files = files
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
        """Events without room in the kernel's queue or of who was forgotten; denials untold."""
        denied = 0 if self._denier is None else self._denier.lost
        return {"report": self._told.lost + self._forgotten, "kill": denied}

    def close(self) -> None:
        """Give up the groups."""
        self._marker.close()
        if self._denier is not None:
            self._denier.close()

    def _denied(self) -> Iterator[Log]:
        for each in [] if self._denier is None else self._denier.denials():
            path, rule = self._path_and_rule(tuple(each["file"]), each["path"], "kill")
            yield _event(each["at_ns"], each["process"], path, self._rules[rule])

    def _opened(self) -> Iterator[Log]:
        opened, since_ns, self._read_at_ns = [], self._read_at_ns, time.monotonic_ns()
        self._ended.look()
        while some := self._told.read():
            opened += [(e.pid, self._path_and_rule(e.file, e.path, "report")) for e in some]
        members = set(cgroup.pids(self._scope)) if opened else set()
        for pid, (path, rule) in opened:
            process, of = self._running(pid) if pid in members else self._remembered(pid, since_ns)
            if process:
                log = _event(time.monotonic_ns(), process, path, self._rules[rule])
                yield replace(log, container=of)

    def _running(self, pid: int) -> tuple[Mapping[str, Value], Container | None]:
        if not self._containers.sees_process(pid):
            return {}, None
        return opener.described(pid), self._containers.find_process(pid)

    def _mark(self) -> None:
        with self._marker.lock:
            files = self._files
        try:  # first those that are denied, within seconds
            if self._denier is not None:
                self._keep_all(self._denier.mark(self._to_deny(files)))
        finally:
            told = [path for path, file in files.items() if not self._kills(file.rule)]
            self._marker.mark(told)

    def _revive(self) -> None:
        if self._denier is not None:
            with self._marker.lock:
                files = self._files
            self._keep_all(self._denier.revive(self._to_deny(files)))

    def _to_deny(self, files: Mapping[str, Watched]) -> Sequence[str]:
        return [path for path, file in files.items() if self._kills(file.rule)]

    def _kills(self, rule: int) -> bool:
        return self._rules[rule].action == "kill"

    def _keep_all(self, marked: Mapping[str, File]) -> None:
        with self._marker.lock:
            for path, identity in marked.items():
                self._keep(path, identity)

    def _keep(self, path: str, identity: File | None) -> None:
        """Remember what was marked, the latest last; files that are gone are forgotten one day."""
        file = self._files.get(path)
        if identity is None or file is None:
            return
        self._marked.pop(identity, None)
        self._marked[identity] = file.shown, file.rule
        while len(self._marked) > len(self._files) + _KEPT:
            del self._marked[next(iter(self._marked))]

    def _path_and_rule(self, file: File, path: str, action: str) -> tuple[str, int]:
        """What is shown of a file, and its rule; a mark may be gone already, a rule is not."""
        with self._marker.lock:
            known = self._marked.get(file)
        if known is not None:
            return known
        rules = list(enumerate(self._rules))
        opens = [index for index, rule in rules if rule.event == "open"]
        return path, next((i for i in opens if self._rules[i].action == action), opens[0])

    def _remembered(self, pid: int, since_ns: int) -> tuple[Mapping[str, Value], Container | None]:
        found = self._ended.find(pid, since_ns)
        if found is None:
            if self._ended.forgets() and not os.path.exists(f"/proc/{pid}"):
                self._forgotten += 1  # most likely: who runs and is no member never was one
            return {}, None
        process = {**found.process, **self._executable(pid, found.program)}
        return process, self._containers.find(found.cgroup)


def _event(at_ns: int, process: Mapping[str, Value], path: str, rule: Rule) -> Log:
    told = {"file.path": path, "guard.rule": rule.name, "guard.action": rule.action}
    return Log("file.open", at_ns, {**process, **told})
