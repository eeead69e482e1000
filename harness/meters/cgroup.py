"""CPU time of a cgroup and of what is below it; `edges` reads it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from harness.errors import NeedError

_SOME_TOTAL = re.compile(rb"some .*total=(\d+)")
_FULL_TOTAL = re.compile(rb"full .*total=(\d+)")


class CgroupCpu:
    """CPU seconds of one cgroup: v2's cpu.stat (1 us steps, no controller needed), else v1's.

    Needs a directory of the cgroup file system; holds its files open until `close`
    or until it is dropped. With `extras` it also reads how long tasks waited for a CPU and v1's
    split into user and system; without them a reading is one system call.
    """

    def __init__(self, path: Path, extras: bool = False) -> None:
        self.path = path
        self._files: list[int] = []
        self._sources: list[Callable[[], dict[str, float]]] = []
        if _has_usage(path / "cpu.stat"):
            self._add(path / "cpu.stat", parse_cpu_stat)
        elif (path / "cpuacct.usage").exists():
            self._add(path / "cpuacct.usage", parse_cpuacct_usage)
            if extras:
                self._add(path / "cpuacct.stat", parse_cpuacct_stat)
        else:
            raise NeedError(
                f"No CPU time can be read for the cgroup {path}.",
                "It has neither cpu.stat (v2) nor cpuacct.usage (v1).",
                "Run `harness doctor`.",
            )
        if extras:
            with contextlib.suppress(OSError):  # kernels without PSI
                self._add(path / "cpu.pressure", parse_pressure)

    def read(self) -> dict[str, float]:
        """Seconds used so far (`usage`, `user`, `system`, and `throttled`, `pressure` if known)."""
        values: dict[str, float] = {}
        for source in self._sources:
            values |= source()
        return values

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.pop())

    def __del__(self) -> None:
        self.close()

    def _add(self, path: Path, parse: Callable[[bytes], dict[str, float]]) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._files.append(descriptor)
        os.pread(descriptor, 4096, 0)
        self._sources.append(lambda: parse(os.pread(descriptor, 4096, 0)))


def parse_cpu_stat(text: bytes) -> dict[str, float]:
    """Values of a v2 cpu.stat; the throttling keys are there only with the cpu controller."""
    pairs = dict(line.split() for line in text.splitlines())
    values = {
        "usage_seconds": int(pairs[b"usage_usec"]) / 1e6,
        "user_seconds": int(pairs[b"user_usec"]) / 1e6,
        "system_seconds": int(pairs[b"system_usec"]) / 1e6,
    }
    if b"nr_throttled" in pairs:
        values["throttled_count"] = float(pairs[b"nr_throttled"])
        values["throttled_seconds"] = int(pairs[b"throttled_usec"]) / 1e6
    return values


def parse_cpuacct_usage(text: bytes) -> dict[str, float]:
    """The total of a v1 cpuacct.usage, in nanoseconds there."""
    return {"usage_seconds": int(text) / 1e9}


def parse_cpuacct_stat(text: bytes) -> dict[str, float]:
    """The split of a v1 cpuacct.stat, in clock ticks (mostly 10 ms) there."""
    pairs = dict(line.split() for line in text.splitlines())
    tick = os.sysconf("SC_CLK_TCK")
    return {
        "user_seconds": int(pairs[b"user"]) / tick,
        "system_seconds": int(pairs[b"system"]) / tick,
    }


def parse_pressure(text: bytes) -> dict[str, float]:
    """How long some task of the cgroup waited for a CPU, from cpu.pressure."""
    found = _SOME_TOTAL.search(text)
    return {"pressure_seconds": int(found[1]) / 1e6} if found else {}


def starved_seconds(path: Path) -> float:
    """How long tasks of the cgroup wanted a CPU and none of them had one; 0 where none counts it.

    On one CPU that is all the time in which others kept it from running (PSI, `full`).
    """
    try:
        found = _FULL_TOTAL.search((path / "cpu.pressure").read_bytes())
    except OSError:
        return 0.0
    return int(found[1]) / 1e6 if found else 0.0


def _has_usage(path: Path) -> bool:
    try:
        return b"usage_usec" in path.read_bytes()
    except OSError:
        return False
