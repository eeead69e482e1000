"""`profile` walks code without frame pointers by .eh_frame: chains that are known are whole."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.agent.libbpf import Object
from harness.agent.unwinding import _ENDS
from tests.bpf.profiled import folded, sample, stacks
from tests.bpf.tables import BARE, CHAIN, built, built_odd
from tests.waiting import until

pytestmark = [
    pytest.mark.bpf,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="tables are for x86_64"),
]
BY_TABLES = ("--frequency", "99", "--unwind", "eh_frame")
LOADS = """
import ctypes, os, sys, time
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
sorts = ctypes.CDLL(sys.argv[1]).in_library
numbers = (ctypes.c_int * 64)()
while True:
    sorts(numbers, 64)
"""


@pytest.fixture
def output(tmp_path: Path) -> Path:
    directory = tmp_path / "pprof"
    directory.mkdir()
    return directory


def whole(named: dict[str, int]) -> float:
    """The share of stacks in which the chain is, whatever libc has between."""
    own = set(CHAIN)
    found = sum(n for s, n in named.items() if [f for f in s.split(";") if f in own] == CHAIN)
    return found / sum(named.values())


@pytest.mark.parametrize("linked", [("-fPIE", "-pie"), ("-fno-pie", "-no-pie")], ids=["pie", "no"])
def test_a_chain_through_a_library_and_libc_is_whole(
    service: Any, start_agent: Callable[..., Any], output: Path, tmp_path: Path, linked: Any
) -> None:
    process = service.start(str(built(tmp_path, linked)))
    agent = start_agent("profile", *BY_TABLES, "--pprof", str(output))
    assert any(hook.startswith("eh_frame (") for hook in agent.ready["hooks"])
    stats = sample(agent, 200)
    assert stats["lost"] == 0
    assert stats["unwind_whole"] > 0.95 * stats["events"]
    assert whole(folded(output, process.pid)) > 0.9
    assert stats["unwind_files"] >= 3
    assert 0 < 8 * stats["unwind_rows"] == stats["unwind_bytes"] < 1 << 20


def test_by_frame_pointers_it_is_not(
    service: Any, start_agent: Callable[..., Any], output: Path, tmp_path: Path
) -> None:
    process = service.start(str(built(tmp_path)))
    agent = start_agent("profile", "--frequency", "99", "--pprof", str(output))
    stats = sample(agent, 200)
    assert not [name for name in stats if name.startswith("unwind_")]
    assert [each["name"] for each in stats["programs"]] == ["profile"]
    assert stats["map_bytes"] < 4 << 20  # no room for tables
    assert whole(folded(output, process.pid)) < 0.1


def test_code_without_a_table_ends_a_stack_or_is_walked_by_its_frame_pointer(
    service: Any, start_agent: Callable[..., Any], output: Path, tmp_path: Path
) -> None:
    process = service.start(str(built(tmp_path, middle=BARE)))
    cut = start_agent("profile", *BY_TABLES)
    mixed = start_agent("profile", *BY_TABLES[:-1], "auto", "--pprof", str(output))
    stats, also = sample(cut, 100), sample(mixed, 100)
    assert stats["unwind_no_table"] > 0.9 * stats["events"]
    assert also["unwind_whole"] > 0.9 * also["events"]
    assert whole(folded(output, process.pid)) > 0.9


@pytest.mark.parametrize(
    ("why", "directives", "deep"),
    [
        ("register", ".cfi_def_cfa 3, 16", 0),
        ("expression", ".cfi_escape 0x0f, 0x03, 0x77, 0x08, 0x06", 0),
        ("saved_elsewhere", ".cfi_register 16, 3", 0),
        ("far_offset", ".cfi_def_cfa 7, 300000", 0),
        ("unreadable", ".cfi_def_cfa 7, 262136", 0),  # above all of the stack
        ("too_deep", "", 200),
    ],
)
def test_why_a_stack_ends_early_is_told(
    service: Any,
    start_agent: Callable[..., Any],
    receiver: Any,
    output: Path,
    tmp_path: Path,
    why: str,
    directives: str,
    deep: int,
) -> None:
    service.start(str(built_odd(tmp_path, directives, deep)))
    agent = start_agent("profile", *BY_TABLES, "--pprof", str(output))
    stats = sample(agent, 50)
    assert stats[f"unwind_{why}"] > 0.9 * stats["events"]
    told = {
        receiver.attributes(point)["error.type"]: point.as_int
        for point in receiver.points("profile.stacks.cut")
    }
    assert told[why] == stats[f"unwind_{why}"]
    deepest = max(len(each.frames) for each in stacks(output))
    assert deepest >= (127 if deep else 2)  # those of the kernel come on top


def walked(agent: Any) -> float:
    """The share of the next samples whose stack is whole."""
    agent.call("on")
    before = agent.call("stats")
    after = sample(agent, before["events"] + 100)
    grown = {name: after[name] - before[name] for name in ("events", "unwind_whole")}
    return float(grown["unwind_whole"] / grown["events"])


def test_forked_processes_are_walked_by_the_tables_of_their_parent(
    service: Any, start_agent: Callable[..., Any], tmp_path: Path
) -> None:
    agent = start_agent("profile", *BY_TABLES, "--interval", "600")
    service.start(str(built(tmp_path)), "by children")  # while it waits for them
    assert until(lambda: walked(agent) > 0.9), "stacks stay cut"
    assert agent.call("stats")["unwind_processes_without_room"] == 0


def test_a_library_that_is_loaded_later_has_its_table(
    service: Any, start_agent: Callable[..., Any], tmp_path: Path
) -> None:
    library = built(tmp_path).with_name("libsorting.so")
    go = tmp_path / "go"
    service.start("/usr/bin/python3", "-c", LOADS, str(library), str(go))
    agent = start_agent("profile", *BY_TABLES, "--interval", "0.2")
    go.touch()
    assert until(lambda: walked(agent) > 0.9), "stacks stay cut"


def test_a_file_that_has_gone_or_was_replaced_has_its_table(
    service: Any, start_agent: Callable[..., Any], tmp_path: Path
) -> None:
    program = built(tmp_path)
    maps = Path(f"/proc/{service.start(str(program)).pid}/maps")
    assert until(lambda: "libsorting.so" in maps.read_text()), "it was not loaded"
    program.with_name("libsorting.so").unlink()
    (tmp_path / "odd").mkdir()
    built_odd(tmp_path / "odd").rename(program)
    assert walked(start_agent("profile", *BY_TABLES)) > 0.9


def test_tables_go_with_the_processes_that_had_them(
    service: Any, start_agent: Callable[..., Any], tmp_path: Path
) -> None:
    program = service.start(str(built(tmp_path)))
    agent = start_agent("profile", *BY_TABLES, "--interval", "0.2")
    assert until(lambda: agent.call("stats")["unwind_rows"] > 0)
    program.terminate()
    assert until(lambda: agent.call("stats")["unwind_rows"] == 0), "they stay"


def test_each_reason_has_its_counter(bpf_objects: Path) -> None:
    own = Object(bpf_objects / "profile.bpf.o")
    try:
        assert own.map("ends").max_entries == len(_ENDS) + 1
    finally:
        own.close()
