"""What a collector's processes and programs take while they run; for the benches of collectors."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench_table import Failed

from harness.linux import bpf_programs, processes
from harness.meters.bpfstats import Watched

_SCHED = 2  # of a clock: CPU time of a process with all its threads; see clock_getcpuclockid(3)
_TICKS = os.sysconf("SC_CLK_TCK")
ATTACHED_SECONDS = 30.0  # until it has loaded its programs
REASON = re.compile(r"fail|unable|cannot|could not|not found|error", re.IGNORECASE)


def attached(process: processes.Process) -> set[int]:
    """Its programs, when it has loaded the last of them; Failed if it ends first, or has none."""
    deadline, found = time.monotonic() + ATTACHED_SECONDS, set[int]()
    while time.monotonic() < deadline:
        if processes.await_end(process, 0.5):
            raise Failed(_reason(process))
        last, found = (
            found,
            {
                each
                for pid in family(process.pid)
                for each in bpf_programs.held(pid) | bpf_programs.attached(pid)
            },
        )
        if found and found == last:
            return found
    raise Failed(f"It loaded no program within {ATTACHED_SECONDS:g} s.")


def _reason(process: processes.Process) -> str:
    """Why it ended, in its own words: the first that sound like a reason, else the last."""
    said = [line.strip() for line in process.log.read_text(errors="replace").splitlines()]
    lines = [line for line in said if line and "RLIMIT_MEMLOCK" not in line]
    reasons = [line for line in lines if REASON.search(line) and "modprobe" not in line]
    return next(iter(reasons or lines[-1:]), f"It ended with {process.wait()} and said nothing.")


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            with suppress(OSError):  # it has ended
                found += [int(child) for child in task.read_text().split()]
    return found


@dataclass(frozen=True)
class Taken:
    """ns of CPU of a collector's processes, ns in its programs, and how often these ran."""

    cpu_ns: float
    ran_ns: float
    runs: float

    def less(self, idle: Taken, times: float) -> Taken:
        """Without so many times what an idle stretch took."""
        return Taken(
            self.cpu_ns - times * idle.cpu_ns,
            self.ran_ns - times * idle.ran_ns,
            self.runs - times * idle.runs,
        )


class Spent:
    """What a collector takes from now on."""

    def __init__(self, process: processes.Process, watched: Watched) -> None:
        self._process, self._watched = process, watched
        self._began, self._programs = time.monotonic(), watched.read()
        self._cpu_ns = cpu_ns_of(process.pid)

    @property
    def seconds(self) -> float:
        """How long it is."""
        return time.monotonic() - self._began

    def till_now(self) -> Taken:
        """What it took since."""
        if processes.await_end(self._process, 0):
            raise Failed(_reason(self._process))
        cpu_ns, now = cpu_ns_of(self._process.pid) - self._cpu_ns, self._watched.read().values()
        self.lasted = self.seconds
        ran_ns = sum(each.run_time_ns - self._programs[each.id].run_time_ns for each in now)
        runs = sum(each.run_cnt - self._programs[each.id].run_cnt for each in now)
        return Taken(cpu_ns, ran_ns, runs)


def cpu_ns_of(pid: int) -> int:
    """CPU of a process and its descendants, with threads and children of theirs that have ended."""
    spent = 0
    for each in family(pid):
        with suppress(OSError):  # it has ended
            spent += time.clock_gettime_ns(~each << 3 | _SCHED)
            fields = Path(f"/proc/{each}/stat").read_bytes().rpartition(b")")[2].split()
            spent += sum(map(int, fields[13:15])) * 10**9 // _TICKS  # of children, in whole ticks
    return spent
