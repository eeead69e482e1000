"""What an agent itself costs and loses, as metrics; runtime exports them with the collector's."""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import Metric

from harness.agent.telemetry import Attributes, Point, counter, level

if TYPE_CHECKING:
    from harness.agent.libbpf import ProgramInfo  # which only loads where libbpf is

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def metrics(
    events: int, lost: int, programs: Sequence[ProgramInfo], of: Attributes
) -> list[Metric]:
    """CPU and memory of this process, its events, and its programs' runs; each point says `of`.

    The kernel counts runs only while kernel.bpf_stats_enabled is set: they are left out until it
    was, and stand still when it is no more.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    modes = {"user": used.ru_utime, "system": used.ru_stime}
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


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
