"""Memory of processes, of their BPF maps and of cgroups; `trial` reads it at its end."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_PROC, _PAGE = Path("/proc"), os.sysconf("SC_PAGE_SIZE")
_ROLLUP = re.compile(rb"^(Rss|Pss|Private_Dirty):\s+(\d+) kB$", re.MULTILINE)
_ANONYMOUS = re.compile(rb"^Pss_Anon:\s+(\d+) kB$", re.MULTILINE)
_PEAK = re.compile(rb"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_CGROUP_FILES = {
    "current_bytes": ("memory.current", "memory.usage_in_bytes"),
    "peak_bytes": ("memory.peak", "memory.max_usage_in_bytes"),
}


def resident_bytes(pids: Iterable[int], proc: Path = _PROC) -> dict[str, int]:
    """What is resident of processes: `rss`, `pss` with shared pages divided among their users, and
    `private_dirty`, which nobody else has and no file does; dead processes have none.
    """
    found = {"rss": 0, "pss": 0, "private_dirty": 0}
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            text = (proc / str(pid) / "smaps_rollup").read_bytes()
            for name, kilobytes in _ROLLUP.findall(text):
                found[name.decode().lower()] += int(kilobytes) * 1024
    return found


def pss_bytes(pids: Iterable[int], proc: Path = _PROC) -> int:
    """Resident memory with shared pages divided among their users; dead processes have none."""
    return resident_bytes(pids, proc)["pss"]


def anonymous_bytes(pids: Iterable[int], proc: Path = _PROC) -> int | None:
    """What no file backs: heaps, stacks, what was compiled; shared pages are divided.

    None where the kernel does not tell it of any of them.
    """
    found = []
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += _ANONYMOUS.findall((proc / str(pid) / "smaps_rollup").read_bytes())
    return sum(int(each) for each in found) * 1024 if found else None


def rss_bytes(pids: Iterable[int], proc: Path = _PROC) -> int:
    """What is resident of processes, shared pages counted whole; it can be asked often."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pages += int((proc / str(pid) / "statm").read_bytes().split()[1])
    return pages * _PAGE


def peak_rss_bytes(pid: int, proc: Path = _PROC) -> int:
    """The most that was ever resident of a process, shared pages counted whole; 0 if it died."""
    try:
        found = _PEAK.search((proc / str(pid) / "status").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) * 1024 if found else 0


def map_bytes(pid: int, proc: Path = _PROC) -> int:
    """Kernel memory of the BPF maps that a process holds open, each counted once."""
    return sum(_locked(pid, proc))


def cgroup_bytes(path: Path) -> dict[str, int]:
    """`current_bytes` and `peak_bytes` of a cgroup v1 or v2; empty without the controller."""
    values = {}
    for key, names in _CGROUP_FILES.items():
        for name in names:
            with contextlib.suppress(OSError):
                values[key] = int((path / name).read_text())
                break
    return values


def _locked(pid: int, proc: Path) -> Iterator[int]:
    seen = set()
    for path in (proc / str(pid) / "fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            pairs = dict(
                line.split(b":", 1) for line in path.read_bytes().splitlines() if b":" in line
            )
            if b"map_id" in pairs and pairs[b"map_id"] not in seen:
                seen.add(pairs[b"map_id"])
                yield int(pairs[b"memlock"])
