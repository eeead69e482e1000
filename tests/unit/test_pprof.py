"""pprof files: what is written is read back, and a foreign reader agrees."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from harness.agent import pprof
from harness.agent.pprof import Builder, Frame, Mapping, Stack
from harness.linux import processes

BINARY = Mapping(0x400000, 0x500000, 0, "/usr/bin/server", "abcd")
STACKS = [
    Stack((Frame(0x401000, BINARY), Frame(name="hot", file="app.py", line=6)), 3, 42, 43),
    Stack((Frame(0xFFFFFFFF81000000), Frame(0x401000, BINARY)), 1, 42, 42),
    Stack((Frame(0x401000, BINARY, "main.hot"),), 2, 7, 7, (("k8s.pod.uid", "2a6f"),)),
]


def build() -> Builder:
    builder = Builder(started_ns=10**18, duration_ns=5 * 10**9, period_ns=10**7)
    for stack in STACKS:
        builder.add(stack.frames, stack.count, stack.pid, stack.tid, stack.labels)
    return builder


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "profile.pb.gz"
    pprof.write(build().profile, path)
    profile = pprof.read(path)
    assert list(pprof.stacks(profile)) == STACKS
    assert (profile.time_nanos, profile.duration_nanos, profile.period) == (
        10**18,
        5 * 10**9,
        10**7,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["profile.pb.gz"]


def test_values_are_samples_and_nanoseconds() -> None:
    profile = build().profile
    text = profile.string_table
    assert text[0] == ""
    assert [(text[each.type], text[each.unit]) for each in profile.sample_type] == [
        ("samples", "count"),
        ("cpu", "nanoseconds"),
    ]
    assert list(profile.sample[0].value) == [3, 3 * 10**7]


def test_one_address_of_two_processes_is_two_locations() -> None:
    builder = Builder(0, 0, 1)
    for pid in (1, 2, 2):
        builder.add([Frame(0x401000, BINARY)], 1, pid, pid)
    assert len(builder.profile.location) == len(builder.profile.mapping) == 2


def test_it_is_a_gzipped_protobuf(tmp_path: Path) -> None:
    builder = Builder(0, 0, 1)
    builder.profile.string_table.append("x")
    pprof.write(builder.profile, tmp_path / "p")
    raw = gzip.decompress((tmp_path / "p").read_bytes())
    assert raw[:2] == b"\x0a\x04"  # field 1, sample_type: two small varints
    assert b"\x32\x01x" in raw  # field 6, string_table


@pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed")
def test_go_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "profile.pb.gz"
    pprof.write(build().profile, path)
    # the first use builds the tool
    env = {"PPROF_TMPDIR": str(tmp_path)}
    raw = processes.run(["go", "tool", "pprof", "-raw", str(path)], env=env, timeout=300).stdout
    assert "Period: 10000000" in raw
    assert "hot app.py:6" in raw
    top = processes.run(
        ["go", "tool", "pprof", "-top", "-cum", str(path)], env=env, timeout=300
    ).stdout
    assert "60ms total" in top
    assert any(
        line.split()[-1] == "hot" and line.split()[3] == "30ms"
        for line in top.splitlines()
        if "hot" in line
    )
    labelled = processes.run(
        ["go", "tool", "pprof", "-top", "-tagfocus=k8s.pod.uid=2a6f", str(path)],
        env=env,
        timeout=300,
    ).stdout
    assert {line.split()[-1] for line in labelled.splitlines() if "hot" in line} == {"main.hot"}
