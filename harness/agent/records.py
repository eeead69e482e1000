"""What the kernel half of `guard` tells, as log records; used by `guard`."""

from __future__ import annotations

import ipaddress
import struct
from collections import OrderedDict
from collections.abc import Sequence

from harness.agent import policy
from harness.agent.policy import Rule
from harness.agent.telemetry import Log, Value
from harness.agent.text import text
from harness.agent.together import Together

EVENT_NAMES = {"exec": "process.exec", "open": "file.open", "connect": "network.connect"}
_EVENT = struct.Struct("=QQQ8I16s256s")  # struct event up to its args
_ARGS_BYTES = 256
_CUT_PATH, _CUT_SCRIPT, _CUT_ARGS, _UNKNOWN_PATH, _UNKNOWN_SCRIPT, _UNLINKED = (
    1 << bit for bit in range(6)
)  # enum flag
_PEER = struct.Struct("=IHBB16s16s")
_CONNECTS = struct.Struct("=QQQQII")
LAYOUTS = {
    "event": struct.Struct(f"{_EVENT.format}{_ARGS_BYTES}s256s"),  # with its args and script
    "peer": _PEER,
    "connects": _CONNECTS,
}
_TRANSPORTS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp"}  # `network.type` says which of ICMP
_REMEMBERED = 4096


class Records:
    """Makes them, and remembers which programs processes executed.

    A program is told by a number beside the process's: of it were others before, and are after.

    `guard.truncated` names the attributes that are cut: at their end, or, where they begin with
    `...`, at their beginning.
    """

    def __init__(self, rules: Sequence[Rule], containers: Together) -> None:
        self._rules, self._containers = rules, containers
        self._executables: OrderedDict[tuple[int, int], str] = OrderedDict()

    def event(self, record: bytes) -> Log:
        """An execution or an opened file."""
        head, rest = record[: _EVENT.size], record[_EVENT.size :]
        at_ns, group, program, kind, _, rule, pid, parent, *more = _EVENT.unpack(head)
        args_len, argc, flags, comm, path = more
        executed = kind == policy.EVENTS["exec"]
        name = "process.executable.path" if executed else "file.path"
        attributes: dict[str, Value] = {
            **_process(pid, parent, comm),
            **self._outcome(rule),
            name: _path(path, flags & _UNKNOWN_PATH),
        }
        cut = [name] if flags & (_CUT_PATH | _UNKNOWN_PATH) else []
        if executed:
            self._remember(pid, program, str(attributes[name]))
            args = rest[:args_len].removesuffix(b"\0").split(b"\0") if args_len else []
            attributes["process.command_args"] = [text(each) for each in args]
            attributes["process.args_count"] = argc
            cut += ["process.command_args"] if flags & _CUT_ARGS else []
        else:
            attributes |= self.executable(pid, program)
        if script := rest[_ARGS_BYTES:]:
            attributes["process.script.path"] = _path(script, flags & _UNKNOWN_SCRIPT)
            cut += ["process.script.path"] if flags & (_CUT_SCRIPT | _UNKNOWN_SCRIPT) else []
        if cut:
            attributes["guard.truncated"] = cut
        if flags & _UNLINKED:
            attributes["guard.unlinked"] = True
        of = self._containers.find(group)
        event_name = EVENT_NAMES["exec" if executed else "open"]
        return Log(event_name, at_ns, attributes, container=of)

    def connects(self, key: bytes, value: bytes) -> Log:
        """Connects of a process to a peer, or datagrams to it."""
        pid, port, protocol, _, raw, comm = _PEER.unpack(key)
        count, first_ns, group, program, rule, parent = _CONNECTS.unpack(value)
        address = ipaddress.IPv6Address(raw)
        peer = address.ipv4_mapped or address
        attributes: dict[str, Value] = {
            **_process(pid, parent, comm),
            **self.executable(pid, program),
            **self._outcome(rule),
            "network.transport": _TRANSPORTS.get(protocol, str(protocol)),
            "network.type": f"ipv{peer.version}",
            "network.peer.address": str(peer),
            "guard.count": count,
        }
        if attributes["network.transport"] != "icmp":  # which has no ports
            attributes["network.peer.port"] = port
        of = self._containers.find(group)
        return Log(EVENT_NAMES["connect"], first_ns, attributes, container=of)

    def executable(self, pid: int, program: int) -> dict[str, Value]:
        """The attribute that names a program, if its execution was told."""
        if (path := self._executables.get((pid, program))) is None:
            return {}
        self._executables.move_to_end((pid, program))
        return {"process.executable.path": path}

    def _outcome(self, rule: int) -> dict[str, Value]:
        return {"guard.rule": self._rules[rule].name, "guard.action": self._rules[rule].action}

    def _remember(self, pid: int, program: int, path: str) -> None:
        self._executables[pid, program] = path
        if len(self._executables) > _REMEMBERED:
            self._executables.popitem(last=False)


def _process(pid: int, parent: int, comm: bytes) -> dict[str, Value]:
    return {
        "process.pid": pid,
        "process.parent_pid": parent,
        "process.executable.name": _text(comm),
    }


def _path(raw: bytes, beginning_is_unknown: int) -> str:
    return f"...{_text(raw)}" if beginning_is_unknown else _text(raw)


def _text(raw: bytes) -> str:
    return text(raw.split(b"\0", 1)[0])
