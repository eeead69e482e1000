"""What an agent itself costs, loses and drops, as metrics; `hosted` exports them with the rest.

A process that hosts one collector is its cost. Of several in one process each has the CPU time of
its own threads, and the rest of the process (memory, sending, the interpreter) is told once.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.agent import bounded
from harness.agent.telemetry import Attributes, Metric, Point, counter, level

if TYPE_CHECKING:
    from harness.agent.libbpf import ProgramInfo  # which only loads where libbpf is

_PAGE_BYTES, _TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
_MODES = ("user", "system")
_TASKS = "/proc/self/task"
_MOST_BYTES = 1 << 16  # of a file that says what a thread did


class Share:
    """The CPU time of some threads of this process and of the processes that they started.

    It only grows: what ended is counted as it was read last.
    """

    def __init__(self) -> None:
        self._tasks: set[int] = set()
        self._children: set[int] = set()
        self._read: dict[str, tuple[float, float]] = {}

    def add(self, task: int) -> None:
        """Count this thread, by its number, and its children."""
        self._tasks.add(task)

    @contextlib.contextmanager
    def growing(self) -> Iterator[None]:
        """Count the threads and children that begin meanwhile; of one collector at a time."""
        tasks, children = _numbers(), set(_children())
        try:
            yield
        finally:
            self._tasks |= _numbers() - tasks
            self._children |= set(_children()) - children

    def seconds(self) -> dict[str, float]:
        """By mode; known to a tick of each thread, mostly 10 ms."""
        # copies: the thread that drains and the one that sends both ask
        tasks = list(self._tasks)
        self._children |= {pid for task in tasks for pid in _children(str(task))}
        places = [f"/proc/self/task/{each}" for each in tasks]
        for place in (*places, *(f"/proc/{each}" for each in list(self._children))):
            with contextlib.suppress(OSError):  # it has ended
                self._read[place] = _ran(place)
        self._read |= {f"for {each}": bounded.spent(each) for each in tasks}
        read = list(self._read.values())
        user, system = (sum(each[i] for each in read) for i in range(2))
        return {"user": user, "system": system}


class Rest:
    """The CPU time of this process and its children but for some shares; it only grows, too."""

    def __init__(self, shares: Sequence[Share] = ()) -> None:
        self._shares = shares
        self._told = dict.fromkeys(_MODES, 0.0)

    def seconds(self) -> dict[str, float]:
        """By mode."""
        shared = [share.seconds() for share in self._shares]
        for mode, spent in _cpu_seconds().items():
            left = spent - sum(each[mode] for each in shared)  # which are whole ticks
            self._told[mode] = max(self._told[mode], left)
        return dict(self._told)


def metrics(
    events: int,
    lost: int,
    programs: Sequence[ProgramInfo],
    of: Attributes,
    dropped: Mapping[tuple[str, str], int],
    failures: Mapping[str, int],
) -> list[Metric]:
    """A collector's events, what of its telemetry was dropped, and its programs' runs.

    Each point says `of`.

    The kernel counts runs only while kernel.bpf_stats_enabled is set: they are left out until it
    was, and stand still when it is no more. So are what was dropped and what failed until there is
    something.
    """
    made = [
        counter("harness.agent.events", "{event}", [Point(of, events)]),
        counter("harness.agent.events.lost", "{event}", [Point(of, lost)]),
    ]
    if dropped:
        gone = [
            Point({**of, "harness.signal": signal, "error.type": reason}, number)
            for (signal, reason), number in dropped.items()
        ]
        made.append(counter("harness.agent.telemetry.dropped", "{record}", gone))
    if failures:
        failed = [Point({**of, "error.type": kind}, number) for kind, number in failures.items()]
        made.append(counter("harness.agent.failures", "{failure}", failed))
    ran = [(info, {**of, "bpf.program.name": info.name}) for info in programs if info.run_cnt]
    if ran:
        times = [Point(named, info.run_time_ns / 1e9) for info, named in ran]
        counts = [Point(named, info.run_cnt) for info, named in ran]
        made.append(counter("bpf.program.run.time", "s", times))
        made.append(counter("bpf.program.run.count", "{run}", counts))
    return made


def cpu(used: Share | Rest, of: Attributes) -> Metric:
    """CPU time, by mode."""
    points = [Point({**of, "cpu.mode": mode}, spent) for mode, spent in used.seconds().items()]
    return counter("process.cpu.time", "s", points)


def memory(of: Attributes) -> Metric:
    """What is resident of this process and its children."""
    return level("process.memory.usage", "By", [Point(of, _resident_bytes())])


def _cpu_seconds() -> dict[str, float]:
    """By mode; that of children that run is known to a tick, mostly 10 ms."""
    ended = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = {
        "user": sum(each.ru_utime for each in ended),
        "system": sum(each.ru_stime for each in ended),
    }
    for pid in _children():
        with contextlib.suppress(OSError):  # it has ended
            for mode, spent in zip(_MODES, _ran(f"/proc/{pid}"), strict=True):
                seconds[mode] += spent
    return seconds


def _ran(place: str) -> tuple[float, float]:
    """User and system seconds of a process or thread."""
    fields = _content(f"{place}/stat").rpartition(b")")[2].split()
    return int(fields[11]) / _TICKS, int(fields[12]) / _TICKS


def _resident_bytes() -> int:
    pages = 0
    for pid in ("self", *_children()):
        with contextlib.suppress(OSError):
            pages += int(_content(f"/proc/{pid}/statm").split()[1])
    return pages * _PAGE_BYTES


def _numbers() -> set[int]:
    return set(map(int, os.listdir(_TASKS)))


def _children(task: str = "") -> list[int]:
    """Those of a thread, or of all."""
    found: list[int] = []
    for each in [task] if task else os.listdir(_TASKS):
        with contextlib.suppress(OSError):  # the thread has ended
            found += map(int, _content(f"{_TASKS}/{each}/children").split())
    return found


def _content(path: str) -> bytes:
    """What is in a small file of /proc, by three system calls: idle agents read some each time."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, _MOST_BYTES)
    finally:
        os.close(file)
