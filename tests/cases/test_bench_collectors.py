"""What others' collectors said, counted, and how they compare with ours."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.linux import processes

CI = Path(__file__).resolve().parents[2] / "ci"
NAMES = {
    "cgroup": "/c", "cgroup_id": "7", "pid": "4711", "port": "40001", "folder": "/tmp/x.y/opened",
}  # fmt: skip
SAID = {
    "libbpf-tools tcplife": (
        """PID     COMM             LADDR           LPORT RADDR           RPORT TX_KB  RX_KB  MS
30445   kubelet          10.244.1.1      34934 10.244.1.4      8080  0.11   0.14   0.40
4711    python           127.0.0.1       49784 127.0.0.1       40001 0.00   0.00   0.61
4711    python           127.0.0.1       40001 127.0.0.1       49784 0.00   0.00   0.61
4711    python           127.0.0.1       49786 127.0.0.1       40001 0.00   0.00   0.31
""",
        2,
    ),
    "bpftrace, counting": (
        """Attaching 2 probes...
@closed[127.0.0.1, 40001]: 1000

@closed[127.0.0.1, 40001]: 23
""",
        1023,
    ),
    "libbpf-tools execsnoop": (
        """PCOMM            PID    PPID   RET ARGS
true             8954   4711     0 /bin/true 
true             8955   4711     0 /bin/true 
test             8956   1143     0 /usr/bin/test /bin/true -a
""",
        2,
    ),
    "libbpf-tools opensnoop": (
        """PID    COMM              FD ERR PATH
4711   python            17   0 /etc/localtime
4711   python            17   0 /tmp/x.y/opened/12
4711   python            17   0 /tmp/xzy/opened/12
""",
        1,
    ),
    "bpftrace, counting stacks": (
        """Attaching 2 probes...
@stacks[python, 
        asm_sysvec_apic_timer_interrupt+22
, 
        0x4f0a1c
        _PyEval_EvalFrameDefault+1234
]: 41
@stacks[python, , 
        0x4f0a1c
]: 2
""",
        43,
    ),
}


def _loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(CI))
    return importlib.import_module(name)


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    questions = _loaded("questions", monkeypatch).QUESTIONS
    return {tool.name: tool for each in questions for tool in each.tools}


@pytest.mark.parametrize("name", SAID)
def test_events_that_others_told_are_counted(name: str, tools: dict[str, Any]) -> None:
    said, number = SAID[name]
    assert tools[name].count(said, NAMES) == number


def test_commands_name_what_they_are_for(tools: dict[str, Any]) -> None:
    for tool in tools.values():
        argv = [each.format(**NAMES) for each in tool.argv]
        named = ("40001", "4711", "/c", "== 7")
        assert tool.scope == "the host" or any(n in each for each in argv for n in named), argv


def test_a_round_is_compared_with_ours_of_the_same_round(monkeypatch: pytest.MonkeyPatch) -> None:
    table = _loaded("bench_table", monkeypatch)
    question = _loaded("questions", monkeypatch).QUESTIONS[0]

    def figures(kernel_us: float, agent_us: float) -> object:
        return table.Figures(100, 99, kernel_us, 2, agent_us, 0.5, 20, 1.5, 50 + 2 * kernel_us)

    found = {
        (question.name, "harness flows"): [figures(n, n) for n in (1, 2, 3, 2, 2)],
        (question.name, "libbpf-tools tcplife"): [figures(n, n) for n in (4, 8, 12, 8, 8)],
        (question.name, "libbpf-tools tcpconnect"): [figures(9, 9)] * 4,
        (question.name, table.NOBODY): [figures(0, 0)] * 5,
    }
    failed = {(question.name, "BCC tcplife"): table.Failed("Unable to find kernel headers.")}
    options = argparse.Namespace(
        rounds=3, seconds=12.0, rate=500.0, load=0.1, polling=True, versions=["bpftrace 1"], note=""
    )
    text = table.text([question], found, failed, options)
    costs = "100 | 99 | 8.00 (4.00 to 12.00) | 2.0 | 8.0 (4.0 to 12.0) | 16.0 (8.0 to 24.0)"
    assert f"| libbpf-tools tcplife | the port | {costs} | 4 [4, 4] |" in text
    assert "| none: 4 rounds, and an interval takes 5 |" in text
    assert "BCC tcplife does not run here: `Unable to find kernel headers.`" in text
    assert "bpftrace, counting |" not in text


def test_what_the_maker_takes_is_told_only_beside_rounds_with_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = _loaded("bench_table", monkeypatch)
    rounds = [table.Figures(100, 100, 1, 1, 0, 0.5, 20, 1.5, each) for each in (12, 15, 11)]
    bare = [table.Figures(100, 100, 0, 0, 0, 0, 0, 0, each) for each in (10, 10, 12)]
    assert table._in_maker(rounds, bare) == "2.0 (-1.0 to 5.0)"
    assert table._in_maker(rounds, ()) == "not told"
    burning = [table.Figures(100, 100, 0, 0, 0, 0, 0, 0)]
    assert table._in_maker(burning, burning) == "not told"


ENDED = """
import os, sys, threading, time
def burn(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
thread = threading.Thread(target=burn, args=(0.2,))
thread.start()
thread.join()
if os.fork() == 0:
    burn(0.3)
    os._exit(0)
os.wait()
print("burnt", flush=True)
sys.stdin.read()
"""


def test_threads_and_children_that_have_ended_are_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpu_ns_of = _loaded("bench_process", monkeypatch).cpu_ns_of
    process = processes.connect([sys.executable, "-c", ENDED], log=tmp_path / "log")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"burnt\n"
        assert cpu_ns_of(process.pid) >= 0.45e9
    finally:
        processes.stop(process)


def test_a_maker_tells_what_making_took(monkeypatch: pytest.MonkeyPatch) -> None:
    maker = _loaded("event_maker", monkeypatch)
    told = maker.counted(maker.burn)({"seconds": 0.1})
    assert told["made"] == 0.1
    assert told["cpu_seconds"] >= 0.1
    spawned = maker.counted(maker.execute)
    told = spawned({"argv": [sys.executable, "-c", "sum(range(1000000))"], "number": 3, "rate": 9})
    assert told["cpu_seconds"] > 0.01  # of the children


def test_a_multiple_has_an_interval_and_none_where_ours_may_be_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = _loaded("bench_table", monkeypatch)

    def rounds(*costs: float) -> list[object]:
        return [table.Figures(100, 100, each, 1, 0, 0.5, 20, 1.5) for each in costs]

    theirs = rounds(19, 21, 20, 18, 22)
    said = re.fullmatch(r"10 \[([\d.]+), ([\d.]+)\]", table._ratio(theirs, rounds(1, 3, 2, 2, 2)))
    assert said
    assert float(said[1]) < 10 < float(said[2])
    assert table._ratio(theirs, rounds(3, -2, 1, -2, 1)).startswith("none: ours is not told")


def test_who_saw_too_little_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    table = _loaded("bench_table", monkeypatch)

    def figures(seen: float) -> object:
        return table.Figures(100, seen, 1, 2, 1, 0.5, 20, 1.5)

    whole, blind = [figures(95), figures(90), figures(99)], [figures(94), figures(100), figures(9)]
    assert table.sees(whole)
    assert not table.sees(blind)
    assert table._ratio(blind, whole) == "none: it saw 94 %"
    assert table._ratio(whole, blind) == "none: ours saw too few"
    assert table._ratio(blind, blind) == "none: it saw 94 %"
    assert table._ratio(whole, whole) == "1"
    fails = _loaded("bench_collectors", monkeypatch).ours_fail
    assert fails({("opens", "harness guard"): blind}, {})
    assert fails({}, {("opens", "harness guard"): table.Failed("no")})
    assert not fails({("opens", "harness guard"): whole, ("opens", "opensnoop"): blind}, {})


def test_what_is_taken_while_idle_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = _loaded("bench_process", monkeypatch).Taken
    assert taken(100, 50, 20).less(taken(10, 5, 2), 2.0) == taken(80, 40, 16)
