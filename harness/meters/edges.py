"""All counters that are read at the edge of a window, in one reading; for the methods of `node`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

from harness.meters.cgroup import CgroupCpu
from harness.meters.counters import Counters
from harness.meters.host import NodeCpu

SERVICE = "cpu.workload"


class Edges:
    """CPU seconds of cgroups by the name of their meter, and of the host; files go with `stack`.

    `cpu.workload` is read first: the moment of a reading is its. Of the cgroups in `counted` the
    processor's counters are read too, where it has some; their names get the suffix.
    """

    def __init__(
        self,
        cgroups: Mapping[str, Iterable[Path]],
        stack: ExitStack,
        counted: Mapping[str, Path] | None = None,
    ) -> None:
        self._groups = {
            metric: [stack.enter_context(closing(CgroupCpu(path))) for path in paths]
            for metric, paths in cgroups.items()
        }
        self._counters = {
            suffix: stack.enter_context(closing(Counters(path)))
            for suffix, path in (counted or {}).items()
        }
        self._host = stack.enter_context(closing(NodeCpu()))

    def service(self) -> float:
        """CPU seconds of the service so far."""
        return self._sum(SERVICE)

    def read(self) -> tuple[int, dict[str, float]]:
        """CLOCK_MONOTONIC ns of the reading of the service's CPU, and all counters: those of CPU in
        s, the processor's as they are.
        """
        before = time.monotonic_ns()
        values = {SERVICE: self.service()}
        at_ns = (before + time.monotonic_ns()) // 2
        for suffix, counters in self._counters.items():
            values |= {f"{name}{suffix}": count for name, count in counters.read().items()}
        values |= {name: self._sum(name) for name in self._groups if name != SERVICE}
        host = self._host.read()
        values |= {f"cpu.{name}": host[f"{name}_seconds"] for name in ("host", "softirq", "steal")}
        return at_ns, values

    def _sum(self, metric: str) -> float:
        return sum(meter.read()["usage_seconds"] for meter in self._groups[metric])
