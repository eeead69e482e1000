"""What an agent itself costs and loses, as metrics; runtime exports them with the collector's."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import Metric

from harness.agent.telemetry import Attributes, Point, counter, level

if TYPE_CHECKING:
    from harness.agent.libbpf import ProgramInfo  # which only loads where libbpf is

_PAGE_BYTES, _TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


def metrics(
    events: int, lost: int, programs: Sequence[ProgramInfo], of: Attributes
) -> list[Metric]:
    """What this process and its children used, its events, its programs' runs.

    Each point says `of`.

    The kernel counts runs only while kernel.bpf_stats_enabled is set: they are left out until it
    was, and stand still when it is no more.
    """
    modes = _cpu_seconds()
    seconds = [Point({**of, "cpu.mode": mode}, spent) for mode, spent in modes.items()]
    made = [
        counter("process.cpu.time", "s", seconds),
        level("process.memory.usage", "By", [Point(of, _resident_bytes())]),
        counter("harness.agent.events", "{event}", [Point(of, events)]),
        counter("harness.agent.events.lost", "{event}", [Point(of, lost)]),
    ]
    ran = [(info, {**of, "bpf.program.name": info.name}) for info in programs if info.run_cnt]
    if ran:
        times = [Point(named, info.run_time_ns / 1e9) for info, named in ran]
        counts = [Point(named, info.run_cnt) for info, named in ran]
        made.append(counter("bpf.program.run.time", "s", times))
        made.append(counter("bpf.program.run.count", "{run}", counts))
    return made


def _cpu_seconds() -> dict[str, float]:
    """By mode; that of children that run is known to a tick, mostly 10 ms."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = {
        "user": sum(each.ru_utime for each in used),
        "system": sum(each.ru_stime for each in used),
    }
    for pid in _children():
        with contextlib.suppress(OSError):  # it has ended
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            seconds["user"] += int(fields[11]) / _TICKS
            seconds["system"] += int(fields[12]) / _TICKS
    return seconds


def _resident_bytes() -> int:
    pages = 0
    for pid in ("self", *_children()):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    return pages * _PAGE_BYTES


def _children() -> list[str]:
    lists = Path("/proc/self/task").glob("*/children")
    return [pid for each in lists for pid in each.read_text().split()]
