"""`flows`: TCP connections of one cgroup by role, port, peer and local address; for `__main__`.

Nothing runs per packet or per request. tp_btf/inet_sock_set_state is taken and not sock_ops,
because sock_ops says nothing of connections that were open before it was attached, while the
tracepoint sees them close; sockets keep their own totals of bytes, retransmits and round-trip
time, so one reading at the close and one an export (an iterator over the connections that are
known, about 1 us each) are enough. A walk over all of the host's sockets takes milliseconds, for
the hash table is large, and is made only at the start and once after being switched on: once in
each network namespace that the cgroup's processes are in, since it shows but the reader's.

A close that no program saw is told when its socket goes (tp_btf/tcp_destroy_sock), where what is
kept of a connection would go unsaid; `stats` says how many, as `closed_late`. Where neither was
seen it is missing among those that are open, and counts as lost: `closed_unseen` (unseen.py).

What being off means: a connection is counted as opened when it is first seen, whole, with all
bytes since its start, and never twice. One that opens and closes while `flows` is off is not
seen; one that was known and closes then stays without its close and its last bytes.

UDP sockets keep no totals, and no tracepoint tells a datagram's size and peer: `--udp on` attaches
packet programs to the cgroup, which then run for each packet of it, those of TCP among them.
`--drops on` takes the tracepoint of dropped packets, which is the whole host's (drops.py).
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.agent import cgroup, containers, drops, flow_series, layouts, network_namespaces
from harness.agent.collector import Attachment
from harness.agent.drops import Drops
from harness.agent.errors import AgentError
from harness.agent.flow_metrics import metrics as as_metrics
from harness.agent.flow_series import COUNTED, FLOW, KEY, NOTHING, SERIES, Flow, Series
from harness.agent.iterator import Iterator
from harness.agent.libbpf import Object, attached_to
from harness.agent.peers import Peers
from harness.agent.telemetry import Counts, Telemetry, by_container
from harness.agent.together import Together
from harness.agent.unseen import Unseen

_FLOWS_OF_CONTAINERS = 16384  # of all containers of a node
_UDP = ("udp_ingress", "udp_egress")
_LOCAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_log = logging.getLogger("harness.agent")


def add_options(parser: ArgumentParser) -> None:
    """How many peers are told apart and for how long, whether datagrams are counted."""
    containers.add_option(parser)
    parser.add_argument(
        "--peers",
        type=int,
        default=256,
        help="peers that are told one by one, of each container; the rest is told together",
    )
    parser.add_argument(
        "--peer-age",
        type=float,
        default=300.0,
        help="seconds after which a peer with which nothing happens is told with the rest",
    )
    parser.add_argument(
        "--udp",
        choices=("on", "off"),
        default="off",
        help="count datagrams, too: a program runs for each packet of the cgroup then",
    )
    parser.add_argument(
        "--drops",
        choices=("on", "off"),
        default="off",
        help="count received packets that the kernel dropped, by its reason: Linux 6.11 or later",
    )


def create(options: Namespace) -> Flows:
    """The collector as the command line asks for it."""
    if options.peers < 1 or options.peer_age < 0:
        raise AgentError(
            "No peers can be told so.",
            f"--peers is {options.peers}, --peer-age is {options.peer_age:g}.",
            "Give one peer at least, and an age that is not negative.",
        )
    peers, together = Peers(options.peers, options.peer_age), containers.asked(options)
    dropped = Drops(together, wanted=options.drops == "on")
    return Flows(together, peers, dropped, udp=options.udp == "on")


@dataclass
class _Reading:
    """Whether connections that are open are read at exports; an Attachment."""

    hook: str
    on: bool = True

    def destroy(self) -> None:
        """Read no more."""
        self.on = False


class Flows:
    """TCP connections of one cgroup, aggregated in the kernel; datagrams if asked for."""

    name = "flows"

    def __init__(
        self, containers: Together, peers: Peers, drops: Drops, *, udp: bool = False
    ) -> None:
        self._containers, self._peers, self._drops, self._udp = containers, peers, drops, udp
        self._reading = _Reading("", on=False)
        self._walk_due = self._read_due = self._warned = False
        self._pass = 0
        self._unseen = Unseen()
        # of cgroups that went before their container: counters only grow
        self._kept: dict[Series, list[int]] = {}

    def configure(self, obj: Object) -> None:
        """Tell connections of containers apart, or not; count datagrams and drops, or not."""
        layouts.check(obj, "flow_series", SERIES)
        layouts.check(obj, "flow", FLOW)
        self._containers.prepare(obj, ["flows"], KEY.size, _FLOWS_OF_CONTAINERS)
        with contextlib.suppress(OSError, ValueError):
            obj.set("targ_ephemeral", int(_LOCAL_PORTS.read_text().split()[0]))
        for name in () if self._udp else _UDP:
            obj.program(name).skip()
        self._drops.configure(obj)

    def start(self, obj: Object) -> None:
        """Make the iterators ready."""
        self._object, self._flows = obj, obj.map("flows")
        self._containers.start(obj)
        self._drops.start(obj)
        for key in flow_series.overflows():
            self._flows.update(key.ljust(self._flows.key_size, b"\0"), bytes(FLOW.size))
        self._known = Iterator(obj.program("read_open"), over=obj.map("connections"))
        self._all = Iterator(obj.program("find_open"))

    def aim(self, obj: Object, directory: int) -> None:
        """Learn which ports this cgroup listens on and which connections it has.

        The programs know it by its inode, which is the id that the kernel knows it by.
        """
        obj.set("targ_cgroup", os.fstat(directory).st_ino)
        self._directory = directory
        self._containers.look()
        self._walk()

    def attach(self, obj: Object) -> Sequence[Attachment]:
        """Watch states from now on; what opened meanwhile is found at the next export."""
        names = ["on_state", "on_destroy", *(_UDP if self._udp else ())]
        names += [drops.PROGRAM] if self._drops.wanted else []
        links = attached_to(self._directory, map(obj.program, names))
        self._reading = _Reading(self._known.hook)
        self._unseen.begin()
        self._walk_due = self._read_due = True
        return [*links, self._reading]

    def collect(self, *, metrics: bool) -> Telemetry:
        """Read the open connections while on, and a last time after that, and all counters."""
        if not metrics:
            return Telemetry()
        reading = self._reading.on
        if reading or self._read_due:
            self._read_due = reading
            self._read_open()
        self._forget()
        own, contained = by_container(self._told(forget_idle=reading))
        dropped, of_containers = by_container(self._drops.read())
        told = {
            each: [
                *as_metrics(contained.get(each, ())),
                *drops.metrics(of_containers.get(each, ())),
            ]
            for each in {**contained, **of_containers}
        }
        return Telemetry([*as_metrics(own), *drops.metrics(dropped)], contained=told)

    def counts(self) -> Counts:
        """`events` are connections opened, closed and failed; datagrams are none."""
        opened, closed, failed, lost = map(self._global, ("opened", "closed", "failed", "lost"))
        late, unseen = self._global("late"), self._unseen.count
        more = {"closed_late": late, "closed_unseen": unseen}
        return Counts(events=opened + closed + failed, lost=lost + unseen, more=more)

    def close(self) -> bool:
        """Give up the iterators."""
        self._known.close()
        self._all.close()
        self._containers.close()
        return True

    def _walk(self) -> None:
        """Find the connections and listeners that there are in all of its network namespaces."""
        pids = cgroup.pids(Path(f"/proc/self/fd/{self._directory}"))
        refused = network_namespaces.visit(pids, self._all.run)
        if refused and not self._warned:
            self._warned = True
            _log.warning(
                "A network namespace cannot be entered (%s): connections in it that are older than"
                " this agent are told once they close. It needs CAP_SYS_ADMIN and CAP_SYS_PTRACE.",
                refused[0],
            )

    def _read_open(self) -> None:
        self._walk_due |= self._containers.turned()  # connections that were open before
        if self._walk_due and self._reading.on:
            self._walk()
            self._walk_due = False  # if it fails, the next reading tries again
        low, high = self._pass_over()
        if not self._reading.on:  # by now closes are not seen, and are no loss
            return
        if self._unseen.grows(low):  # a pass may miss one whose neighbour goes
            low = min(low, self._pass_over()[0])
        self._unseen.look(low, high)

    def _pass_over(self) -> tuple[int, int]:
        """Read those that are known; how many at least and at most went unseen, since ever."""
        self._pass += 1
        self._object.set("pass", self._pass)
        self._object.set("known", 0)
        opened, closed = self._global("opened"), self._closed()
        self._known.run()
        known = self._global("known")
        return opened - self._closed() - known, self._global("opened") - closed - known

    def _closed(self) -> int:
        """Closed, and told or not: who is selected no more is not."""
        return self._global("closed") + self._global("left")

    def _told(self, *, forget_idle: bool) -> list[Flow]:
        now = time.monotonic()
        keys, read = self._read()
        told = self._peers.tell(read, now)
        # while it is off, nothing tells which connections are open
        for series in self._peers.idle(now) if forget_idle else ():
            self._peers.fold(series, self._removed(series, keys.get(series, ())))
        return [flow_series.flow(series, figures) for series, figures in told.items()]

    def _read(self) -> tuple[dict[Series, list[bytes]], dict[Series, list[int]]]:
        """The keys and the figures of each series: a container may have several cgroups."""
        keys: dict[Series, list[bytes]] = {}
        read = {series: list(kept) for series, kept in self._kept.items()}
        for key, value in self._flows.items():
            figures = flow_series.figures(value, self._pass)
            if any(figures[:COUNTED]):
                series = self._containers.find(flow_series.cgroup(key)), key[: KEY.size]
                keys.setdefault(series, []).append(key)
                flow_series.plus(read, series, figures)
        return keys, read

    def _removed(self, series: Series, keys: Sequence[bytes]) -> list[int]:
        """Give the room of a series to others; its figures up to that moment."""
        total = {series: self._kept.pop(series, NOTHING)}
        for key in keys:
            flow_series.plus(total, series, self._taken(key))
        return list(total[series])

    def _taken(self, key: bytes) -> list[int]:
        value = self._flows.take(key)
        return flow_series.figures(value) if value else NOTHING

    def _forget(self) -> None:
        """Give the room of containers that are long gone to those that come."""
        gone = self._containers.forgotten()
        self._drops.forget(gone)
        for key in list(self._flows.keys()) if gone else ():
            if (number := flow_series.cgroup(key)) in gone:
                series = gone[number], key[: KEY.size]
                flow_series.plus(self._kept, series, self._taken(key))
        if gone:
            self._peers.forget(self._containers.lasts)
            ended = {s for s in self._kept if not self._containers.lasts(s[0])}
            for series in ended:
                del self._kept[series]

    def _global(self, name: str) -> int:
        return int.from_bytes(self._object.get(name), "little")
