"""What an agent says of its own cost."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from opentelemetry.sdk.metrics.export import Metric

from harness.agent import footprint
from harness.linux import processes

OF = {"harness.collector": "http", "harness.service": "shop"}


def program(name: str, seconds: float, runs: int) -> Any:
    return SimpleNamespace(name=name, run_time_ns=round(seconds * 1e9), run_cnt=runs)


def told(metrics: list[Metric]) -> dict[str, dict[str, float]]:
    """Metric -> what tells its points apart -> value."""
    return {
        metric.name: {
            ",".join(str(v) for k, v in (p.attributes or {}).items() if k not in OF): p.value
            for p in metric.data.data_points
        }
        for metric in metrics
    }


def test_cpu_memory_and_events() -> None:
    before = time.process_time()
    found = told(footprint.metrics(23, 2, [], OF))
    assert before - 0.01 <= sum(found["process.cpu.time"].values())
    assert set(found["process.cpu.time"]) == {"user", "system"}
    assert 1e6 < found["process.memory.usage"][""] < 1e10
    assert found["harness.agent.events"] == {"": 23}
    assert found["harness.agent.events.lost"] == {"": 2}


# Uses a fifth of a second of its CPU, says so, and stays.
CHILD = """
import time
while time.process_time() < 0.2:
    pass
print('{"ready": true}', flush=True)
time.sleep(600)
"""


def test_children_are_counted_while_they_run_and_after(tmp_path: Path) -> None:
    def used() -> tuple[float, float]:
        found = told(footprint.metrics(0, 0, [], OF))
        return sum(found["process.cpu.time"].values()), found["process.memory.usage"][""]

    seconds, memory = used()
    child = processes.spawn([sys.executable, "-c", CHILD], log=tmp_path / "log")
    try:
        assert processes.announced(child, 30)
        assert used()[0] > seconds + 0.15
        assert used()[1] > memory + 1e6
    finally:
        processes.stop(child)
    assert used()[0] > seconds + 0.15


def test_every_point_says_whose_it_is() -> None:
    for metric in footprint.metrics(1, 0, [program("ingress", 1.0, 1)], OF):
        for point in metric.data.data_points:
            assert OF.items() <= (point.attributes or {}).items()


def test_runs_of_programs_are_told_where_the_kernel_counts_them() -> None:
    programs = [program("ingress", 0.5, 1000), program("egress", 0, 0)]
    found = told(footprint.metrics(0, 0, programs, OF))
    assert found["bpf.program.run.time"] == {"ingress": 0.5}
    assert found["bpf.program.run.count"] == {"ingress": 1000}
    assert "bpf.program.run.time" not in told(footprint.metrics(0, 0, programs[1:], OF))
