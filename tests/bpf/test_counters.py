"""Counters of a cgroup on the real kernel: whom they count, and that nobody else is counted.

Where there is no PMU a clock stands for instructions: scope, descriptor and reading are the same.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from harness.linux import bpf_features, processes, syscall
from harness.meters import counters
from harness.meters.cgroup import CgroupCpu
from harness.meters.counters import ENABLED, HARDWARE, RUNNING, TASK_CLOCK, Counters
from harness.meters.edges import Edges
from tests.bpf.conftest import Service, cgroup2_mount
from tests.unit import opened

pytestmark = pytest.mark.bpf

CLOCK = {"instructions": TASK_CLOCK}
BURN = """
import sys, threading, time, subprocess
def burn(seconds, clock):
    until = clock() + seconds
    while clock() < until: pass
print('{"ready": true, "port": 0}', flush=True)
sys.stdin.readline() if "wait" in sys.argv else None
thread = threading.Thread(target=burn, args=(0.2, time.thread_time))
thread.start()
burn(0.1, time.thread_time)
thread.join()
if "child" in sys.argv: subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.2: pass"])
"""  # noqa: E501


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Service]:
    mount = cgroup2_mount()
    assert mount is not None
    path = mount / f"harness-test-counters-{os.getpid()}"
    path.mkdir()
    service = Service(path, tmp_path / "log")
    yield service
    service.remove()


def burnt(service: Service, *words: str) -> float:
    """CPU seconds of a process in the cgroup that burns some and ends."""
    with closing(CgroupCpu(service.path)) as meter:
        before = meter.read()["usage_seconds"]
        process = service.start(sys.executable, "-c", BURN, *words)
        assert process.wait(120) == 0
        return meter.read()["usage_seconds"] - before


def outside() -> None:
    processes.run([sys.executable, "-c", BURN], timeout=120)


@pytest.mark.parametrize("words", [(), ("child",)])
def test_what_a_cgroup_does_is_counted_and_nothing_else(
    place: Service, words: tuple[str, ...]
) -> None:
    with closing(Counters(place.path, CLOCK)) as meter:
        assert meter.by_cgroup
        outside()
        assert meter.read()["instructions"] == 0
        cpu = burnt(place, *words)
        found = meter.read()
        assert 0.7 * cpu < found["instructions"] / 1e9 < 1.4 * cpu  # ns
        assert found[ENABLED] == pytest.approx(found[RUNNING])
        outside()
        assert meter.read()["instructions"] == found["instructions"]


def test_what_is_below_the_cgroup_is_counted(place: Service, tmp_path: Path) -> None:
    (place.path / "below").mkdir()
    below = Service(place.path / "below", tmp_path / "below.log")
    try:
        with closing(Counters(place.path, CLOCK)) as meter:
            cpu = burnt(below)
            assert 0.7 * cpu < meter.read()["instructions"] / 1e9 < 1.4 * cpu
    finally:
        below.remove()


@pytest.fixture
def threads_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a hierarchy of version 1 has the controller: no event is scoped to a cgroup v2."""
    opened = syscall.open_counter

    def refusing(*event: int, is_cgroup: bool = False, **keys: int) -> int:
        if is_cgroup:
            raise FileNotFoundError(errno.ENOENT, "as on such a machine")
        return opened(*event, is_cgroup=is_cgroup, **keys)

    monkeypatch.setattr(syscall, "open_counter", refusing)


@pytest.mark.usefixtures("threads_only")
def test_without_a_scope_of_cgroups_threads_and_what_they_start_are_counted(
    place: Service,
) -> None:
    reader, writer = os.pipe()
    code = BURN.replace("sys.stdin.readline()", f"open({reader}).readline()")
    os.set_inheritable(reader, True)
    pid = os.posix_spawn(
        sys.executable, [sys.executable, "-c", code, "wait", "child"], dict(os.environ)
    )
    (place.path / "cgroup.procs").write_text(str(pid))
    with closing(Counters(place.path, CLOCK)) as meter:
        assert not meter.by_cgroup
        outside()
        before = meter.read()["instructions"]
        os.write(writer, b"\n")
        _, status, usage = os.wait4(pid, 0)
        assert status == 0
        counted = (meter.read()["instructions"] - before) / 1e9
    os.close(reader)
    os.close(writer)
    whole = usage.ru_utime + usage.ru_stime  # with its child, and what was before
    assert 0.45 < counted < 1.4 * whole  # it burns 0.5 s: 0.3 in two threads, 0.2 in a child


@pytest.mark.usefixtures("threads_only")
def test_an_empty_cgroup_without_such_a_scope_counts_nothing(place: Service) -> None:
    with closing(Counters(place.path, CLOCK)) as meter:
        assert meter.read() == {}


@pytest.mark.parametrize(
    ("events", "left"),
    [
        ({"instructions": TASK_CLOCK, "cycles": (1, 99)}, {"instructions", ENABLED, RUNNING}),
        ({"instructions": (1, 99), "cycles": TASK_CLOCK}, set()),
    ],
)
def test_what_the_machine_lacks_is_left_out(
    place: Service, events: Mapping[str, counters.Event], left: set[str]
) -> None:
    with closing(Counters(place.path, events)) as meter:
        assert set(meter.read()) == left


def test_it_leaves_no_file_open(place: Service) -> None:
    before = opened.named("anon_inode:[perf_event]")
    with closing(Counters(place.path, {**CLOCK, "cycles": TASK_CLOCK})):
        assert len(opened.named("anon_inode:[perf_event]")) > len(before)
    assert opened.named("anon_inode:[perf_event]") == before
    assert opened.at(place.path) == []


def test_instructions_are_counted_if_and_only_if_the_machine_can(place: Service) -> None:
    with closing(Counters(place.path)) as meter:
        burnt(place)
        found = meter.read()
    if bpf_features.refusal("hardware counters"):
        assert found == {}
    else:
        assert found["instructions"] > 1e6
        assert set(found) <= {*HARDWARE, ENABLED, RUNNING}


def test_a_reading_at_an_edge_has_them_beside_the_cpu(
    place: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "HARDWARE", CLOCK)
    with ExitStack() as files:
        edges = Edges({"cpu.workload": [place.path]}, files, {"": place.path, ".twin": place.path})
        _, before = edges.read()
        cpu = burnt(place)
        _, after = edges.read()
    grown = {name: after[name] - before[name] for name in after}
    assert grown["cpu.workload"] == pytest.approx(cpu, abs=0.1)
    for name in ("instructions", "instructions.twin"):
        assert 0.7 * cpu < grown[name] / 1e9 < 1.4 * cpu
