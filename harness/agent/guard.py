"""`guard`: executions, outgoing connections and opened files of one cgroup; made by `__main__`.

Executions and kills happen in the kernel; events wait in a ring buffer, connections are counted
by process and peer, and both are fetched by the timer without a wake-up. A connection that the
policy kills for is denied at once, and the process is killed by a thread woken for it, because
no signal can be sent from that hook. Files: BPF LSM if the kernel runs it, else fentry, else
fanotify (opens.py), or the one that was asked for; the hook that was taken is told.
"""

from __future__ import annotations

import ipaddress
import os
import struct
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from harness.agent import cgroup, containers, open_hook, pid_namespace, policy
from harness.agent.collector import Attachment
from harness.agent.containers import Together
from harness.agent.errors import AgentError
from harness.agent.libbpf import Object, RingBuffer, attached_to
from harness.agent.opens import Opens, listed
from harness.agent.policy import Rule
from harness.agent.responder import Responder
from harness.agent.telemetry import Counts, Log, Metric, Point, Telemetry, Value, counter
from harness.agent.text import text

_EVENT = struct.Struct("=QQ6I16s256s256s")  # struct event
_PEER = struct.Struct("=IHBB16s16s")  # struct peer
_CONNECTS = struct.Struct("=QQQII")  # struct connects
_EVENT_NAMES = {1: "process.exec", 2: "file.open"}
_TRANSPORTS = {6: "tcp", 17: "udp"}
_REMEMBERED = 4096


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
        self._logs: list[Log] = []
        self._told: Counter[str] = Counter()
        self._executables: OrderedDict[int, str] = OrderedDict()

    def configure(self, obj: Object) -> None:
        """Load only what the rules need."""
        for program in obj.programs:
            if program.name not in self._programs:
                program.skip()
        obj.set("targ_pid_ns", pid_namespace.inode())
        self._containers.prepare(obj, (), 0, 0)
        obj.set("filter_suffixes", bool(policy.path_tries(self._rules)[1]))

    def start(self, obj: Object) -> None:
        """Open what events are read from."""
        self._object = obj
        self._ring = RingBuffer(obj.map("ring"), self._take)
        self._condemned = RingBuffer(obj.map("condemned"), self._kill)
        callbacks: dict[int, Callable[[], object]] = {}
        if any(rule.event == "connect" and rule.action == "kill" for rule in self._rules):
            callbacks[obj.map("condemned").fd] = self._condemned.consume
        if self._watches_files:
            self._opens = Opens(self._cgroup, self._rules, obj.map("ended"), self._containers)
        if callbacks:
            self._responder = Responder(callbacks)

    def aim(self, obj: Object, directory: int) -> None:
        """Say whose events count, and fill in the policy with the files of its containers."""
        self._directory = directory
        obj.map("scope").update(bytes(4), directory.to_bytes(4, sys.byteorder))
        self._fill()
        self._containers.look()
        if self._opens is not None:
            self._opens.expire()

    def attach(self, obj: Object) -> Sequence[Attachment]:
        """Watch from now on."""
        if self._opens is None:
            return attached_to(self._directory, obj.programs)
        try:
            self._opens.attach()
            return [*attached_to(self._directory, obj.programs), self._opens]
        except AgentError:
            self._opens.destroy()
            raise

    def collect(self, *, metrics: bool) -> Telemetry:
        """The events since the last time, and how many there were in all."""
        self._containers.forgotten()  # no map keeps anything of them
        self._ring.consume()
        self._logs = [self._with_executable(log) for log in self._logs]
        for key, value in self._object.map("peers").drain():
            self._logs.append(self._connect_log(key, value))
        if self._opens is not None:
            self._logs += map(self._with_executable, self._opens.collect())
        logs, self._logs = self._logs, []
        self._told.update(log.event_name for log in logs)
        return Telemetry(logs=logs, metrics=self._metrics() if metrics else ())

    def counts(self) -> Counts:
        """`lost` are events that found their buffer full."""
        events, lost = (int.from_bytes(self._object.get(n), "little") for n in ("events", "lost"))
        if self._opens is None:
            return Counts(events, lost)
        more = {"answerer_restarts": self._opens.restarts}
        return Counts(events + self._opens.events, lost + self._opens.lost(), more)

    def close(self) -> None:
        """End the thread, then what it reads from."""
        if self._responder is not None:
            self._responder.close()
        if self._opens is not None:
            self._opens.close()
        self._ring.close()
        self._condemned.close()
        self._containers.close()

    def _fill(self) -> None:
        prefixes, suffixes = policy.path_tries(self._rules)
        if self._hook is not None:
            for path, (_, index) in listed(self._rules, self._cgroup).items():
                key, value = policy.path_entry(self._rules[index], index, os.path.realpath(path))
                prefixes[key] = value
        tries = {
            "prefixes": prefixes,
            "suffixes": suffixes,
            "addresses": policy.address_trie(self._rules),
        }
        for name, trie in tries.items():
            for key, value in trie.items():
                self._object.map(name).update(key, value)

    def _metrics(self) -> Sequence[Metric]:
        events = [Point({"event.name": name}, count) for name, count in self._told.items()]
        return [
            *([counter("guard.events", "{event}", events)] if events else []),
            counter("guard.events.lost", "{event}", [Point({}, self.counts().lost)]),
        ]

    def _kill(self, record: bytes) -> None:
        cgroup.kill(int.from_bytes(record, sys.byteorder), self._cgroup)

    def _take(self, record: bytes) -> None:
        at_ns, group, kind, _, rule, pid, parent, args_len, comm, path, args = _EVENT.unpack(record)
        executed = kind == policy.EVENTS["exec"]
        attributes: dict[str, Value] = {
            **_process(pid, parent, comm),
            **self._outcome(rule),
            "process.executable.path" if executed else "file.path": _text(path),
        }
        if executed:
            self._remember(pid, _text(path))
            attributes["process.command_args"] = [
                text(each) for each in args[:args_len].rstrip(b"\0").split(b"\0")
            ]
        of = self._containers.find(group)
        self._logs.append(Log(_EVENT_NAMES[kind], at_ns, attributes, container=of))

    def _connect_log(self, key: bytes, value: bytes) -> Log:
        pid, port, protocol, _, raw, comm = _PEER.unpack(key)
        count, first_ns, group, rule, parent = _CONNECTS.unpack(value)
        address = ipaddress.IPv6Address(raw)
        peer = address.ipv4_mapped or address
        attributes: dict[str, Value] = {
            **_process(pid, parent, comm),
            **self._outcome(rule),
            "network.transport": _TRANSPORTS.get(protocol, str(protocol)),
            "network.type": f"ipv{peer.version}",
            "network.peer.address": str(peer),
            "network.peer.port": port,
            "guard.count": count,
        }
        of = self._containers.find(group)
        return self._with_executable(Log("network.connect", first_ns, attributes, container=of))

    def _outcome(self, rule: int) -> dict[str, Value]:
        return {"guard.rule": self._rules[rule].name, "guard.action": self._rules[rule].action}

    def _remember(self, pid: int, path: str) -> None:
        self._executables[pid] = path
        self._executables.move_to_end(pid)
        if len(self._executables) > _REMEMBERED:
            self._executables.popitem(last=False)

    def _with_executable(self, log: Log) -> Log:
        """Name the program too, from its execution if that was seen."""
        pid = log.attributes["process.pid"]
        path = self._executables.get(pid) if isinstance(pid, int) else None
        if path is None or "process.executable.path" in log.attributes:
            return log
        named = {**log.attributes, "process.executable.path": path}
        return replace(log, attributes=named)


def _programs(watched: set[str], open_hook: str | None) -> set[str]:
    programs = set()
    if "exec" in watched:
        programs.add("on_exec")
    if "connect" in watched:
        programs |= {"on_connect4", "on_connect6"}
    if "open" in watched:
        programs.add(open_hook or "on_exit")
    return programs


def _process(pid: int, parent: int, comm: bytes) -> dict[str, Value]:
    return {
        "process.pid": pid,
        "process.parent_pid": parent,
        "process.executable.name": _text(comm),
    }


def _text(raw: bytes) -> str:
    return text(raw.split(b"\0", 1)[0])
