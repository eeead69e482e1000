"""All counters that are read at the edge of a window, in one reading; for the methods of `node`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

from harness.meters.cgroup import CgroupCpu
from harness.meters.host import NodeCpu

SERVICE = "cpu.workload"


class Edges:
    """CPU seconds of cgroups by the name of their meter, and of the host; files go with `stack`.

    `cpu.workload` is read first: the moment of a reading is its.
    """

    def __init__(self, cgroups: Mapping[str, Iterable[Path]], stack: ExitStack) -> None:
        self._groups = {
            metric: [stack.enter_context(closing(CgroupCpu(path))) for path in paths]
            for metric, paths in cgroups.items()
        }
        self._host = stack.enter_context(closing(NodeCpu()))

    def service(self) -> float:
        """CPU seconds of the service so far."""
        return self._sum(SERVICE)

    def read(self) -> tuple[int, dict[str, float]]:
        """CLOCK_MONOTONIC ns of the reading of the service's counter, and all counters in s."""
        before = time.monotonic_ns()
        values = {SERVICE: self.service()}
        at_ns = (before + time.monotonic_ns()) // 2
        values |= {name: self._sum(name) for name in self._groups if name != SERVICE}
        host = self._host.read()
        values |= {f"cpu.{name}": host[f"{name}_seconds"] for name in ("host", "softirq", "steal")}
        return at_ns, values

    def _sum(self, metric: str) -> float:
        return sum(meter.read()["usage_seconds"] for meter in self._groups[metric])
