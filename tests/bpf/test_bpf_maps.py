"""Memory of maps by formula, held against what the kernel charges for real ones."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.linux import syscall
from harness.meters import bpf_maps
from harness.meters.bpf_maps import HASH, PERCPU_ARRAY, PERCPU_HASH, BpfMap

pytestmark = [
    pytest.mark.bpf,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to load BPF programs"),
]
ENTRIES = 4096


@pytest.fixture(scope="module")
def http(bpf_objects: Path) -> Iterator[Any]:
    """The loaded object of the collector `http`."""
    from harness.agent.libbpf import Object

    with contextlib.closing(Object(bpf_objects / "http.bpf.o")) as obj:
        obj.load()
        yield obj


def made(kind: int, key_size: int, value_size: int) -> BpfMap:
    """A new map, full as far as the kernel sets its entries aside at once."""
    descriptor = syscall.create_map(kind, key_size, value_size, ENTRIES)
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    told = {name: value for name, _, value in (line.partition(":\t") for line in lines)}
    os.close(descriptor)
    return BpfMap(0, "", kind, key_size, value_size, ENTRIES, 0, int(told["memlock"]))


@pytest.mark.parametrize("kind", [PERCPU_ARRAY, PERCPU_HASH])
@pytest.mark.parametrize("value_size", [8, 12, 304])
def test_a_full_per_cpu_map_takes_what_the_kernel_charges(kind: int, value_size: int) -> None:
    found = made(kind, 4, value_size)
    expected = bpf_maps.full_bytes(found, bpf_maps.possible_cpus())
    assert expected == pytest.approx(found.bytes, rel=0.02)
    assert expected > 0.9 * bpf_maps.possible_cpus() * -(-value_size // 8) * 8 * ENTRIES


def test_a_map_that_is_filled_on_demand_takes_it_once_it_is_full(http: Any) -> None:
    series = http.map("series")
    for number in range(series.max_entries):
        series.update(struct.pack("=I", number).ljust(series.key_size, b"\0"), bytes(series.stored))
    found = next(each for each in of(http) if each.name == "series")
    assert found.bytes == series.memory_bytes()
    expected = bpf_maps.full_bytes(found, bpf_maps.possible_cpus())
    assert expected == pytest.approx(found.bytes, rel=0.02)
    on_96 = bpf_maps.bytes_on(found, 96, bpf_maps.possible_cpus())
    values = 96 * series.value_size * series.max_entries
    assert values < on_96 < 1.1 * values


def of(obj: Any) -> list[BpfMap]:
    return bpf_maps.of_programs(program.info().id for program in obj.programs)


def test_the_maps_of_a_collector_are_found_by_its_programs(http: Any) -> None:
    found = {each.name: each for each in of(http)}
    assert {"conns", "series", "overflow", "events"} <= set(found)
    assert found["series"].per_cpu
    assert not found["events"].per_cpu
    for name in ("series", "overflow", "events"):
        assert found[name].bytes == http.map(name).memory_bytes()
        assert found[name].max_entries == http.map(name).max_entries


def test_a_map_that_is_not_per_cpu_takes_the_same_on_more_of_them(http: Any) -> None:
    events = next(each for each in of(http) if each.name == "events")
    assert bpf_maps.bytes_on(events, 96, 2) == events.bytes
    assert bpf_maps.bytes_on(events, 96, 2, 4 * events.max_entries) == 4 * events.bytes
    plain = made(HASH, 4, 8)
    assert plain.bytes < bpf_maps.bytes_on(plain, 96, 2) < plain.bytes + 94 * 100


def test_programs_that_are_gone_have_no_maps() -> None:
    assert bpf_maps.of_programs([2**31 - 1]) == []


@pytest.mark.parametrize(("text", "count"), [("0-1\n", 2), ("0\n", 1), ("0,2-3\n", 4)])
def test_possible_cpus_are_counted(text: str, count: int, tmp_path: Path) -> None:
    (tmp_path / "possible").write_text(text)
    assert bpf_maps.possible_cpus(tmp_path / "possible") == count


def test_total_sums_what_each_takes(http: Any) -> None:
    maps = of(http)
    here = bpf_maps.possible_cpus()
    each = [bpf_maps.bytes_on(one, 96, here) for one in maps]
    assert bpf_maps.total_on(maps, 96) == sum(each)
    larger = replace(maps[0], name="larger", type=27, bytes=1000, max_entries=10)
    assert bpf_maps.total_on([larger], 96, {"larger": 20}) == 2000
