"""Recorded files of the kernel in, values out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import NeedError
from harness.linux import mount
from harness.meters import memory
from harness.meters.cgroup import CgroupCpu
from harness.meters.conditions import Conditions
from harness.meters.host import NodeCpu, cpuacct_root
from tests.unit import opened

CASES = Path(__file__).parent / "meters"
PROC = CASES / "proc"


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (
            "v2",
            {
                "usage_seconds": 152.960052,
                "user_seconds": 109.505031,
                "system_seconds": 43.455020,
                "throttled_count": 7,
                "throttled_seconds": 0.35,
                "pressure_seconds": 9.735722,
            },
        ),
        ("hybrid", {"usage_seconds": 1.234567, "user_seconds": 1, "system_seconds": 0.234567}),
        ("v1", {"usage_seconds": 35.434441018, "user_seconds": 12.01, "system_seconds": 23.42}),
    ],
)
def test_cpu_of_a_cgroup(case: str, expected: dict[str, float]) -> None:
    meter = CgroupCpu(CASES / case, extras=True)
    assert meter.read() == pytest.approx(expected)
    meter.close()


@pytest.mark.parametrize("case", ["v1", "v2", "hybrid"])
def test_a_reading_at_an_edge_is_one_system_call(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = CgroupCpu(CASES / case)
    pread, reads = os.pread, []
    monkeypatch.setattr(os, "pread", lambda *given: reads.append(given) or pread(*given))
    assert meter.read()["usage_seconds"] > 0
    assert len(reads) == 1
    meter.close()


def test_a_directory_that_is_no_cgroup_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NeedError, match="No CPU time"):
        CgroupCpu(tmp_path)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("v2", {"current_bytes": 4325376, "peak_bytes": 9289728}),
        ("v1", {"current_bytes": 618029056, "peak_bytes": 1598746624}),
        ("hybrid", {}),
    ],
)
def test_memory_of_a_cgroup(case: str, expected: dict[str, int]) -> None:
    assert memory.cgroup_bytes(CASES / case) == expected


def test_memory_of_a_process() -> None:
    assert memory.pss_bytes([42], PROC) == 9962 * 1024
    assert memory.peak_rss_bytes(42, PROC) == 14128 * 1024


def test_a_dead_process_has_no_memory() -> None:
    assert memory.pss_bytes([42, 43], PROC) == 9962 * 1024


def test_maps_held_twice_are_counted_once_and_programs_are_no_maps() -> None:
    assert memory.map_bytes(42, PROC) == 86016 + 4096


def test_the_machine_with_schedstat() -> None:
    meter = NodeCpu(proc=PROC)
    assert meter.source == str(PROC / "schedstat")
    assert meter.read() == pytest.approx(
        {
            "host_seconds.0": 153.128421312,
            "host_seconds.1": 98.765432109,
            "host_seconds": 251.893853421,
            "softirq_seconds": 1.41,
            "steal_seconds": 10.65,
            "idle_seconds": 1882.76,
        }
    )
    meter.close()


def test_the_machine_with_proc_stat_alone(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    for name in ("stat", "self/mountinfo"):
        (tmp_path / name).write_bytes((PROC / name).read_bytes())
    meter = NodeCpu(proc=tmp_path)
    assert meter.source == str(tmp_path / "stat")
    assert meter.read() == pytest.approx(
        {
            "host_seconds.0": 29.34,
            "host_seconds.1": 123.6,
            "host_seconds": 152.94,
            "softirq_seconds": 1.41,
            "steal_seconds": 10.65,
            "idle_seconds": 1882.76,
        }
    )
    meter.close()


@pytest.mark.parametrize("is_root", [True, False])
def test_cpuacct_counts_the_machine_only_from_its_true_root(tmp_path: Path, is_root: bool) -> None:
    if is_root:
        (tmp_path / "release_agent").touch()
    line = f"33 31 0:30 / {tmp_path} rw shared:1 - cgroup cgroup rw,cpu,cpuacct\n"
    assert cpuacct_root(line) == (tmp_path if is_root else None)


def test_cpuacct_is_the_finest_source(tmp_path: Path) -> None:
    files: dict[str, str] = {
        "release_agent": "",
        "cpuacct.usage_percpu": "35434441018 135140779932 0 0 \n",
        "self/mountinfo": f"3 1 0:3 / {tmp_path} rw - cgroup cgroup rw,cpuacct\n",
        "stat": (PROC / "stat").read_text(),
        "schedstat": (PROC / "schedstat").read_text(),
    }
    (tmp_path / "self").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    meter = NodeCpu(proc=tmp_path)
    assert meter.source == str(tmp_path / "cpuacct.usage_percpu")
    assert meter.read()["host_seconds"] == pytest.approx(170.57522095)
    meter.close()


def test_mounts_with_spaces_and_optional_fields() -> None:
    found = mount.parse((PROC / "self/mountinfo").read_text())
    assert [each.fstype for each in found] == ["proc", "tmpfs", "cgroup", "cgroup2"]
    assert found[-1].point == Path("/sys/fs/cgroup/my unified")


@pytest.mark.parametrize("read", [memory.cgroup_bytes, lambda path: memory.pss_bytes([1], path)])
def test_missing_files_are_no_memory(tmp_path: Path, read: Callable[[Path], object]) -> None:
    assert not read(tmp_path)


def test_dropped_meters_hold_no_files() -> None:
    for _ in range(23):
        CgroupCpu(CASES / "v2").read()
        NodeCpu(proc=PROC).read()
    assert opened.at(CASES) == opened.at(PROC) == []


def test_what_a_trial_suffered_is_what_was_added_since_its_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()

    def counted(us: int) -> None:
        pressure = f"some avg10=0.00 avg60=0.00 avg300=0.00 total={{}}\nfull total={us}\n"
        stat = f"usage_usec {us}\nuser_usec 0\nsystem_usec 0\nnr_throttled 1\n"
        (tmp_path / "cpu.stat").write_text(stat + f"throttled_usec {10 * us}\n")
        (inner / "cpu.stat").write_text(stat + f"throttled_usec {us}\n")
        for resource, factor in (("cpu", 40), ("memory", 2), ("io", 3)):
            (inner / f"{resource}.pressure").write_text(pressure.format(factor * us))

    clock = iter((100.0, 110.0))
    counted(1_000)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    conditions = Conditions(inner)
    counted(101_000)
    found = conditions.shares()
    conditions.close()
    assert 0.0 <= found.pop("steal_share") <= 1.0
    assert found == pytest.approx(
        {
            "throttled_share": 0.11,  # its own limit's and that of the cgroup above
            "cpu_pressure_share": 0.4,
            "memory_pressure_share": 0.02,
            "io_pressure_share": 0.03,
        }
    )


def test_a_kernel_that_counts_no_waiting_tells_of_steal_alone() -> None:
    conditions = Conditions(CASES / "hybrid")
    assert set(conditions.shares()) == {"steal_share"}
    conditions.close()
