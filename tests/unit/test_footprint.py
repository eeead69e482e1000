"""What an agent says of its own cost."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.agent import footprint
from harness.agent.footprint import Rest, Share
from harness.agent.telemetry import Metric, Point
from harness.linux import processes

OF = {"harness.collector": "http", "harness.service": "shop"}


def program(name: str, seconds: float, runs: int) -> Any:
    return SimpleNamespace(name=name, run_time_ns=round(seconds * 1e9), run_cnt=runs)


def points(metric: Metric) -> list[Point]:
    return [each for each in metric.data.data_points if isinstance(each, Point)]


def told(metrics: Iterable[Metric]) -> dict[str, dict[str, float]]:
    """Metric -> what tells its points apart -> value."""
    return {
        metric.name: {
            ",".join(str(v) for k, v in p.attributes.items() if k not in OF): p.value
            for p in points(metric)
        }
        for metric in metrics
    }


def test_cpu_memory_and_events() -> None:
    before = time.process_time()
    found = told([footprint.cpu(Rest(), OF), footprint.memory(OF)])
    assert before - 0.01 <= sum(found["process.cpu.time"].values())
    assert set(found["process.cpu.time"]) == {"user", "system"}
    assert 1e6 < found["process.memory.usage"][""] < 1e10
    found = told(footprint.metrics(23, 2, [], OF, {}, {}))
    assert found == {"harness.agent.events": {"": 23}, "harness.agent.events.lost": {"": 2}}


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
        found = told([footprint.cpu(Rest(), OF), footprint.memory(OF)])
        return sum(found["process.cpu.time"].values()), found["process.memory.usage"][""]

    seconds, memory = used()
    child = processes.spawn([sys.executable, "-c", CHILD], log=tmp_path / "log")
    try:
        assert processes.announced(child, 60)
        assert used()[0] > seconds + 0.15
        assert used()[1] > memory + 1e6
    finally:
        processes.stop(child)
    assert used()[0] > seconds + 0.15


class Busy:
    """A thread that used a fifth of a second of CPU, and stays until it is told to end."""

    def __init__(self, tmp_path: Path | None = None) -> None:
        self._tmp_path, self._done, self._end = tmp_path, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.number = self._thread.native_id or 0
        assert self._done.wait(60)

    def _run(self) -> None:
        if self._tmp_path is None:
            while time.thread_time() < 0.2:
                pass
        else:
            child = processes.spawn([sys.executable, "-c", CHILD], log=self._tmp_path / "log")
            assert processes.announced(child, 60)
        self._done.set()
        self._end.wait(60)
        if self._tmp_path is not None:
            processes.stop(child)

    def end(self) -> None:
        self._end.set()
        self._thread.join()


def total(used: Share | Rest) -> float:
    return sum(used.seconds().values())


def test_a_share_is_what_its_threads_used_and_the_rest_is_not(tmp_path: Path) -> None:
    share = Share()
    rest = Rest([share])
    before, all_before = total(rest), total(Rest())
    busy, parent = Busy(), Busy(tmp_path)
    share.add(busy.number)
    share.add(parent.number)
    try:
        mine, left = total(share), total(rest) - before
        used = total(Rest()) - all_before
    finally:
        busy.end()
        parent.end()
    assert 0.35 < mine < used + 0.05  # a thread's and another one's child's
    assert left < used - 0.3
    assert total(share) >= mine  # of what has ended, too


def test_what_begins_with_a_collector_is_its_own() -> None:
    share = Share()
    with share.growing():
        busy = Busy()
    other = Busy()
    try:
        assert 0.15 < total(share) < 0.35
    finally:
        busy.end()
        other.end()


def test_every_point_says_whose_it_is() -> None:
    dropped, failures = {("spans", "queue_full"): 3}, {"ENOSPC": 2}
    made = footprint.metrics(1, 0, [program("ingress", 1.0, 1)], OF, dropped, failures)
    for metric in (*made, footprint.cpu(Rest(), OF), footprint.memory(OF)):
        for point in points(metric):
            assert OF.items() <= point.attributes.items()


def test_what_was_dropped_and_what_failed_is_told_by_its_kind() -> None:
    dropped = {("spans", "queue_full"): 3, ("logs", "refused"): 1}
    found = told(footprint.metrics(0, 4, [], OF, dropped, {"ENOSPC": 2}))
    assert found["harness.agent.telemetry.dropped"] == {"spans,queue_full": 3, "logs,refused": 1}
    assert found["harness.agent.failures"] == {"ENOSPC": 2}


def test_runs_of_programs_are_told_where_the_kernel_counts_them() -> None:
    programs = [program("ingress", 0.5, 1000), program("egress", 0, 0)]
    found = told(footprint.metrics(0, 0, programs, OF, {}, {}))
    assert found["bpf.program.run.time"] == {"ingress": 0.5}
    assert found["bpf.program.run.count"] == {"ingress": 1000}
    assert "bpf.program.run.time" not in told(footprint.metrics(0, 0, programs[1:], OF, {}, {}))
