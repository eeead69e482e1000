"""CPU time of the machine; `edges` reads it.

Busy time comes from the finest source that there is: the root of v1's cpuacct hierarchy or
/proc/schedstat (nanoseconds, of tasks, so without interrupts that hit an idle CPU), else
/proc/stat. Softirq, steal and idle are only in /proc/stat, in steps of USER_HZ (10 ms) and on
most kernels sampled by the tick: right on average over a trial, useless for a single window.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

_PROC = Path("/proc")


class NodeCpu:
    """CPU seconds of all CPUs; holds its files open until `close` or until it is dropped."""

    def __init__(self, proc: Path = _PROC) -> None:
        self._files = [_open(proc / "stat")]
        self.source, self._parse = _finest(proc)
        if self._parse is not None:
            self._files.append(_open(Path(self.source)))

    def read(self) -> dict[str, float]:
        """Seconds so far: `host` (busy), `softirq`, `steal`, `idle`, and `host.N` of each CPU."""
        ticks = parse_stat(_read(self._files[0]))
        busy = self._read_busy() or {n: values["host"] for n, values in ticks.items()}
        values = {f"host_seconds.{n}": busy[n] for n in ticks}
        values["host_seconds"] = sum(values.values())
        for name in ("softirq", "steal", "idle"):
            values[f"{name}_seconds"] = sum(cpu[name] for cpu in ticks.values())
        return values

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.pop())

    def __del__(self) -> None:
        self.close()

    def _read_busy(self) -> Mapping[int, float] | None:
        return None if self._parse is None else self._parse(_read(self._files[1]))


def parse_stat(text: bytes) -> dict[int, dict[str, float]]:
    """/proc/stat: seconds of each online CPU; `host` is all that is neither idle nor stolen."""
    tick = os.sysconf("SC_CLK_TCK")
    cpus = {}
    for line in text.splitlines()[1:]:
        if not line.startswith(b"cpu"):
            break
        name, *fields = line.split()
        user, nice, system, idle, iowait, irq, softirq, steal = (int(f) / tick for f in fields[:8])
        cpus[int(name[3:])] = {
            "host": user + nice + system + irq + softirq,
            "softirq": softirq,
            "steal": steal,
            "idle": idle + iowait,
        }
    return cpus


def parse_usage_percpu(text: bytes) -> dict[int, float]:
    """v1's cpuacct.usage_percpu: nanoseconds of each possible CPU."""
    return {cpu: int(value) / 1e9 for cpu, value in enumerate(text.split())}


def parse_schedstat(text: bytes) -> dict[int, float]:
    """/proc/schedstat: the seventh number of each CPU is the time that tasks ran, in ns."""
    rows = (line.split() for line in text.splitlines() if line.startswith(b"cpu"))
    return {int(row[0][3:]): int(row[7]) / 1e9 for row in rows}


Parse = Callable[[bytes], Mapping[int, float]]


def _finest(proc: Path) -> tuple[str, Parse | None]:
    cpuacct = cpuacct_root(os.fsdecode((proc / "self/mountinfo").read_bytes()))
    if cpuacct is not None and (cpuacct / "cpuacct.usage_percpu").exists():
        return str(cpuacct / "cpuacct.usage_percpu"), parse_usage_percpu
    if (proc / "schedstat").exists():
        return str(proc / "schedstat"), parse_schedstat
    return str(proc / "stat"), None


def cpuacct_root(mountinfo: str) -> Path | None:
    """Where v1's cpuacct hierarchy is mounted from its root, which covers every task."""
    for line in filter(None, mountinfo.split("\n")):  # a path may hold what else ends a line
        before, _, after = line.partition(" - ")
        fstype, _, options = after.split(" ", 2)
        point = Path(before.split(" ")[4])
        # release_agent exists in the true root only: a container's root covers the container
        if (
            fstype == "cgroup"
            and "cpuacct" in options.split(",")
            and (point / "release_agent").exists()
        ):
            return point
    return None


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _read(descriptor: int) -> bytes:
    """The whole file: machines with many CPUs and interrupts need more than one piece."""
    pieces, offset = [], 0
    while piece := os.pread(descriptor, 1 << 16, offset):
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)
