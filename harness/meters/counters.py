"""Instructions, cycles and cache misses of a cgroup, by the processor's counters; for `edges`."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.linux import cgroup, syscall
from harness.wire.placement import parse_cpus

Event = tuple[int, int]
"""Type and config of struct perf_event_attr."""

# PERF_TYPE_HARDWARE: PERF_COUNT_HW_INSTRUCTIONS, _CPU_CYCLES, _CACHE_MISSES (of the last level)
HARDWARE: Mapping[str, Event] = {"instructions": (0, 1), "cycles": (0, 0), "cache_misses": (0, 3)}
TASK_CLOCK: Event = (1, 1)  # PERF_COUNT_SW_TASK_CLOCK, ns: every kernel has it
ENABLED, RUNNING = "counters.enabled", "counters.running"

_READING = struct.Struct("=QQQ")  # count, ns enabled, ns counting


@dataclass(frozen=True)
class _Scope:
    """Whom an event counts: a cgroup on one CPU, or a thread and what it starts from now on."""

    of: int
    cpu: int = -1
    is_cgroup: bool = False

    def open(self, event: Event, leader: int = -1) -> int:
        """The event's descriptor; OSError if it is not to be had for them."""
        return syscall.open_counter(
            *event, of=self.of, cpu=self.cpu, is_cgroup=self.is_cgroup, leader=leader
        )


class _Count:
    """One event in one scope, scaled to the time in which it was to count."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.total = self.enabled = self.running = 0.0
        self._last = (0, 0, 0)

    def read(self) -> float:
        """How many so far. What happened while the counter was lent to others is estimated.

        That is in proportion to the time (`perf stat` does it so); where it did not count at all
        since the last reading, the next one makes up for it.
        """
        now = _READING.unpack(os.read(self.descriptor, _READING.size))
        count, enabled, running = (new - old for new, old in zip(now, self._last, strict=True))
        if running:
            self.total += count * enabled / running
            self.enabled += enabled / 1e9
            self.running += running / 1e9
            self._last = now
        return self.total


class Counters:
    """What the processes of a cgroup v2, and of those below it, make the processor count.

    Where the kernel lets events be scoped to that cgroup, they are, on every CPU. It does not
    where a hierarchy of version 1 has `perf_event`: there each thread of the processes has events
    of its own, which what it starts inherits. An event that this machine lacks is left out, and
    with the first all of them. It holds files open until `close`.
    """

    def __init__(self, path: Path, events: Mapping[str, Event] | None = None) -> None:
        self._events = dict(HARDWARE if events is None else events)
        self._counts: dict[str, list[_Count]] = {}
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.by_cgroup = _is_scope(folder)
            if self.by_cgroup:
                for cpu in _online():
                    self._add(_Scope(folder, cpu, is_cgroup=True))
            else:
                self._add_threads(path)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(folder)

    def read(self) -> dict[str, float]:
        """Each event's count so far, and for how long (s, over all scopes) the first was to count
        and did; empty where nothing is counted.
        """
        found = {name: sum(each.read() for each in counts) for name, counts in self._counts.items()}
        if found:
            first = next(iter(self._counts.values()))
            found[ENABLED] = sum(each.enabled for each in first)
            found[RUNNING] = sum(each.running for each in first)
        return found

    def close(self) -> None:
        """Close the files."""
        self._leave_out(list(self._events))

    def _leave_out(self, names: Iterable[str]) -> None:
        """Count these no more, nowhere: one that some CPUs lack would be a part of the truth."""
        for name in names:
            self._events.pop(name, None)
            for count in self._counts.pop(name, ()):
                os.close(count.descriptor)

    def _add(self, scope: _Scope) -> None:
        """Count every event there; what the machine lacks is not tried again elsewhere."""
        leader = -1
        for name, event in list(self._events.items()):
            try:
                opened = scope.open(event, leader)
            except ProcessLookupError:
                raise
            except OSError:  # an optional meter ends no trial
                self._leave_out([name] if leader >= 0 else list(self._events))
                if leader < 0:
                    return
            else:
                leader = opened if leader < 0 else leader
                self._counts.setdefault(name, []).append(_Count(opened))

    def _add_threads(self, path: Path) -> None:
        """Those that there are; one that began meanwhile was missed by the list, or is inherited.

        So the list is read until it has no other.
        """
        seen: set[int] = set()
        while self._events and (new := set(_threads(path)) - seen):
            for thread in sorted(new):
                with contextlib.suppress(ProcessLookupError):  # it ended
                    self._add(_Scope(thread))
            seen |= new


def _is_scope(folder: int) -> bool:
    """Whether events can be scoped to this cgroup; a clock is tried, which is never lacking."""
    try:
        os.close(_Scope(folder, _online()[0], is_cgroup=True).open(TASK_CLOCK))
    except OSError:
        return False
    return True


def _online() -> list[int]:
    return parse_cpus(Path("/sys/devices/system/cpu/online").read_text())


def _threads(path: Path) -> Iterator[int]:
    for pid in cgroup.processes(path):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield from map(int, os.listdir(f"/proc/{pid}/task"))
