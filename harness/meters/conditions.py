"""What the machine did to a trial from outside: steal, throttling, waiting; `trial` reads it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from harness.meters.cgroup import CgroupCpu, parse_cpu_stat, parse_pressure
from harness.meters.host import NodeCpu

RESOURCES = ("memory", "io")


class Conditions:
    """Counters of one cgroup's surroundings since its creation; `shares` of the time since then.

    Throttling counts wherever it can come from: the cgroup and all above it, of which a container's
    limit is one. Needs a directory of a v2 hierarchy; of v1's nothing but steal is known.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with ExitStack() as stack:
            self._node = stack.enter_context(closing(NodeCpu()))
            self._cpu = stack.enter_context(closing(CgroupCpu(path, extras=True)))
            self._before, self._began = self._read(), time.monotonic()
            self._files = stack.pop_all()

    def shares(self) -> dict[str, float]:
        """Shares of the time so far: `steal_share` of the machine's, the others of wall time.

        `throttled_share` and `cpu_pressure_share`, `memory_pressure_share`, `io_pressure_share` are
        there where the kernel counts them: some task of the cgroup waited for that resource.
        """
        after, seconds = self._read(), max(time.monotonic() - self._began, 1e-9)
        since = {key: value - self._before.get(key, value) for key, value in after.items()}
        machine = sum(since[f"{name}_seconds"] for name in ("host", "idle", "steal"))
        return {"steal_share": since["steal_seconds"] / max(machine, 1e-9)} | {
            f"{name}_share": since[f"{name}_seconds"] / seconds
            for name in ("throttled", "cpu_pressure", "memory_pressure", "io_pressure")
            if f"{name}_seconds" in since
        }

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def _read(self) -> dict[str, float]:
        found = self._node.read()
        if (waited := self._cpu.read().get("pressure_seconds")) is not None:
            found["cpu_pressure_seconds"] = waited
        for name in RESOURCES:
            with suppress(OSError):  # kernels without PSI
                told = parse_pressure((self._path / f"{name}.pressure").read_bytes())
                found |= {f"{name}_{key}": value for key, value in told.items()}
        throttled = [each for path in (self._path, *self._path.parents) if (each := _stat(path))]
        if any("throttled_seconds" in each for each in throttled):
            found["throttled_seconds"] = sum(e.get("throttled_seconds", 0.0) for e in throttled)
        return found


def _stat(path: Path) -> Mapping[str, float]:
    """A v2 cpu.stat; empty where there is none."""
    try:
        return parse_cpu_stat((path / "cpu.stat").read_bytes())
    except (OSError, KeyError, ValueError):
        return {}
