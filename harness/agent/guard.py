"""`guard`: executions, outgoing connections and opened files of one cgroup; made by `__main__`.

Executions and kills happen in the kernel; events wait in a ring buffer, connections are counted
by process and peer, and both are fetched by the timer without a wake-up. A connection that the
policy kills for is denied at once, and the process is killed by a thread woken for it, because
no signal can be sent from that hook. Files: BPF LSM if the kernel runs it, else fentry, else
fanotify (opens.py), or the one that was asked for; the hook that was taken is told. What was
decided is counted in the kernel, whether there was room to tell of it or not.
"""

from __future__ import annotations

import os
import struct
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.agent import (
    cgroup,
    containers,
    ended,
    layouts,
    open_hook,
    pid_namespace,
    policy,
    policy_paths,
    records,
)
from harness.agent.collector import Attachment
from harness.agent.ended import Ended
from harness.agent.errors import AgentError
from harness.agent.files import Watched
from harness.agent.folders import Folders
from harness.agent.libbpf import Object, RingBuffer, attached_to
from harness.agent.opens import Opens
from harness.agent.policy import Rule
from harness.agent.policy_maps import PolicyMaps
from harness.agent.records import EVENT_NAMES, Records
from harness.agent.responder import Responder
from harness.agent.telemetry import Counts, Log, Metric, Point, Telemetry, counter
from harness.agent.together import Together

_LAYOUTS = {
    **records.LAYOUTS,
    "ended": ended.LAYOUT,
    "path_key": policy_paths.KEY,
    "address_key": policy.ADDRESS_KEY,
    "rule": policy.RULE,
}
_COUNTS = struct.Struct("=12Q")  # by enum kind and enum verdict
_SEES = {
    "on_exec": "exec",
    "on_exit": "open",  # of who opened and ended
    "on_open_lsm": "open",
    "on_open_fentry": "open",
    "on_connect4": "connect",
    "on_connect6": "connect",
    "on_sendmsg4": "connect",
    "on_sendmsg6": "connect",
}  # which event each program is for
_Counted = Counter[tuple[str, str]]  # by event and what was done
_UNJUDGED = "unjudged"
_SPARE_SLOTS = 4  # for programs that are interrupted by others of their CPU


def add_options(parser: ArgumentParser) -> None:
    """--policy, --watch, --open-hook, --containers."""
    containers.add_option(parser)
    parser.add_argument("--policy", type=Path, help="what to watch, in TOML; else the default")
    parser.add_argument("--watch", help="files to watch besides those of the default")
    parser.add_argument(
        "--open-hook",
        choices=open_hook.CHOICES,
        default="best",
        help="how opened files are seen; else by the best that this kernel has",
    )


def create(options: Namespace) -> Guard:
    """The collector for the cgroup and the policy in `options`; AgentError if it is wrong."""
    more = (policy.watching(options.watch),) if options.watch else ()
    rules = policy.load(options.policy) if options.policy else (*policy.DEFAULT, *more)

    def find_hook() -> str | None:
        return open_hook.found(options.open_hook, options.bpf / "guard.bpf.o", options.btf)

    return Guard(options.cgroup, rules, find_hook, containers.asked(options))


class Guard:
    """Watches one cgroup by rules."""

    name = "guard"

    def __init__(
        self,
        cgroup: Path,
        rules: Sequence[Rule],
        find_hook: Callable[[], str | None],
        containers: Together,
    ) -> None:
        self._cgroup, self._rules, self._containers = cgroup, rules, containers
        watched = {rule.event for rule in rules if rule.action != "ignore"}
        self._hook = find_hook() if "open" in watched else None
        self._watches_files = "open" in watched and self._hook is None
        self._programs = _programs(watched, self._hook)
        self._opens: Opens | None = None
        self._responder: Responder | None = None
        self._records = Records(rules, containers)
        self._logs: list[Log] = []
        self._told: Counter[str] = Counter()
        self._decided_before = (b"", b"")  # what was counted the last two times

    def configure(self, obj: Object) -> None:
        """Load only what the rules need."""
        for struct_name, layout in _LAYOUTS.items():
            layouts.check(obj, struct_name, layout)
        for program in obj.programs:
            if program.name not in self._programs:
                program.skip()
        room = self.entries(os.cpu_count() or 1)
        for name, entries in room.items():
            obj.map(name).resize(entries)
        obj.set("targ_slots", room["scratches"])
        obj.set("targ_pid_ns", pid_namespace.inode())
        self._containers.prepare(obj, (), 0, 0)
        obj.set("filter_suffixes", bool(policy_paths.tries(self._rules, (str,))[1]))
        obj.set("filter_unknown", policy.unknown_paths(self._rules))

    def entries(self, cpus: int) -> dict[str, int]:
        """A slot to work in for each CPU, and some more; who may end in a second is remembered."""
        remembered = {"ended": ended.entries(cpus)} if self._watches_files else {}
        return {"scratches": cpus + _SPARE_SLOTS, **remembered}

    def start(self, obj: Object) -> None:
        """Open what events are read from."""
        self._object = obj
        self._containers.start(obj)
        self._ring = RingBuffer(obj.map("ring"), self._take)
        self._condemned = RingBuffer(obj.map("condemned"), self._kill)
        callbacks: dict[int, Callable[[], object]] = {}
        if any(rule.event == "connect" and rule.action == "kill" for rule in self._rules):
            callbacks[obj.map("condemned").fd] = self._condemned.consume
        if self._watches_files:
            executable = self._records.executable
            self._opens = Opens(self._cgroup, self._rules, Ended(obj), self._containers, executable)
        exactly = self._hook is not None
        sees = self._containers.sees_process
        self._maps = PolicyMaps(self._cgroup, self._rules, obj, exactly, self._watch, sees)
        if callbacks:
            self._responder = Responder(callbacks)

    def aim(self, obj: Object, directory: int) -> None:
        """Say whose events count, and fill in the policy with the files of its containers."""
        self._directory = directory
        obj.map("scope").update(bytes(4), directory.to_bytes(4, sys.byteorder))
        self._maps.fill()
        self._containers.look()

    def attach(self, obj: Object) -> Sequence[Attachment]:
        """Watch from now on."""
        also: list[Opens | Folders] = [
            each for each in (self._opens, self._maps.folders) if each is not None
        ]
        try:
            for each in also:
                each.attach()
            return [*attached_to(self._directory, obj.programs), *also]
        except AgentError:
            for each in also:
                each.destroy()
            raise

    def collect(self, *, metrics: bool) -> Telemetry:
        """The events since the last time, and how many there were in all."""
        self._containers.forgotten()  # no map keeps anything of them
        self._ring.consume()
        if self._may_have_connected() or metrics:
            for key, value in self._object.map("peers").drain():
                self._logs.append(self._records.connects(key, value))
        if self._opens is not None:
            self._logs += self._opens.collect()
        self._maps.follow()  # before they are taken: what fails here is tried again
        logs, self._logs = self._logs, []
        self._told.update(log.event_name for log in logs)
        if not metrics:
            return Telemetry(logs=logs)
        decided, lost = self._decided(), self._lost()
        counts = self._counts(decided, lost)
        return Telemetry(logs=logs, metrics=self._metrics(decided, lost), counts=counts)

    def counts(self) -> Counts:
        """`lost` is what nobody was told of; `unjudged` of it is what was not even looked at."""
        return self._counts(self._decided(), self._lost())

    def _counts(self, decided: _Counted, lost: _Counted) -> Counts:
        more = {
            "unjudged": sum(count for (_, what), count in lost.items() if what == _UNJUDGED),
            "spared": int.from_bytes(self._object.get("spared"), "little"),
        }
        if self._opens is not None:
            more["answerer_restarts"] = self._opens.restarts
        return Counts(sum(decided.values()), sum(lost.values()), more)

    def close(self) -> bool:
        """End the threads, then what they read from."""
        kills = self._responder is not None and not self._responder.close()
        filled = self._maps.close()
        if self._opens is not None:
            self._opens.close()
        self._ring.close()
        if not kills:
            self._condemned.close()
        self._containers.close()
        return filled and not kills

    def _may_have_connected(self) -> bool:
        """Whether a connect was counted since the last time but one: its peer comes after that."""
        counted = self._object.get("decided")
        older, self._decided_before = self._decided_before[0], (self._decided_before[1], counted)
        return counted != older

    def _watch(self, files: Mapping[str, Watched]) -> None:
        if self._opens is not None:
            self._opens.watch(files)

    def _decided(self) -> _Counted:
        """By event and action, from the kernel; what was lost on its way was decided, too."""
        found = self._counted("decided", "ignore")
        if self._opens is not None:
            found.update({("open", action): n for action, n in self._opens.events.items()})
            found["open", "kill"] += self._opens.lost()["kill"]
        return found

    def _lost(self) -> _Counted:
        """A program that interrupts itself on its CPU is not run by the kernel: also unjudged."""
        found = self._counted("lost", _UNJUDGED)
        for program in self._object.programs:
            found[_SEES[program.name], _UNJUDGED] += program.info().recursion_misses
        if self._opens is not None:
            found.update({("open", action): n for action, n in self._opens.lost().items()})
        return found

    def _counted(self, name: str, passed: str) -> _Counted:
        numbers = _COUNTS.unpack(self._object.get(name))
        verdicts = {**policy.ACTIONS, passed: policy.ACTIONS["ignore"]}
        return Counter(
            {
                (event, action): numbers[len(policy.ACTIONS) * kind + verdict]
                for event, kind in policy.EVENTS.items()
                for action, verdict in verdicts.items()
                if action in (passed, "report", "kill")
            }
        )

    def _metrics(self, decided: _Counted, lost: _Counted) -> Sequence[Metric]:
        told = [Point({"event.name": name}, count) for name, count in self._told.items()]
        kinds = sorted({(rule.event, rule.action) for rule in self._rules})
        return [
            *([counter("guard.events", "{event}", told)] if told else []),
            counter("guard.decisions", "{event}", _points(kinds, decided)),
            counter("guard.events.lost", "{event}", _points(kinds, lost)),
        ]

    def _kill(self, record: bytes) -> None:
        cgroup.kill(int.from_bytes(record, sys.byteorder), self._cgroup)

    def _take(self, record: bytes) -> None:
        log = self._records.event(record)
        self._logs.append(log)
        pid = log.attributes["process.pid"]
        if log.event_name == EVENT_NAMES["exec"] and isinstance(pid, int):
            self._maps.roots.forget(pid)


def _points(kinds: Sequence[tuple[str, str]], counted: _Counted) -> list[Point]:
    """Of what the policy has, and of what happened without it."""
    shown = sorted({*kinds, *(each for each, count in counted.items() if count)})
    return [
        Point({"event.name": EVENT_NAMES[event], "guard.action": action}, counted[event, action])
        for event, action in shown
        if action != "ignore"
    ]


def _programs(watched: set[str], open_hook: str | None) -> set[str]:
    """Those of the events watched; for files there are two of BPF, or one beside fanotify."""
    hooks = {name for name, event in _SEES.items() if event in watched and event != "open"}
    return hooks | ({open_hook or "on_exit"} if "open" in watched else set())
