"""`profile` and processes that come and go: what they ran is known after they have ended."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.agent import perf
from harness.agent.libbpf import Object
from harness.linux import processes
from tests.bpf.profiled import by_executable, compiled, executable, folded, has_its_share, stacks
from tests.waiting import until

pytestmark = pytest.mark.bpf

# nothing is drained before the flush: what ended is gone by then
OPTIONS = ("--frequency", "99", "--interval", "600")
# a process for each request, as CGI and ForkingMixIn have it
FORKS = """
import os, sys, time
def burn():
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
for _ in range(40):
    if os.fork() == 0:
        burn()
        os._exit(0)
    os.wait()
open(sys.argv[1] + "ne", "w")
time.sleep(600)
"""
THEN_ANOTHER = """
import os, sys, time
def before():
    while not os.path.exists(sys.argv[2]):
        pass
before()
os.execv(sys.argv[1], [sys.argv[1], "500", "600"])
"""
BURN = "while True: pass"


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("busy"))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    directory = tmp_path / "pprof"
    directory.mkdir()
    return directory


def test_forked_processes_keep_names_and_stacks(
    service: Any, start_agent: Callable[..., Any], receiver: Any, output: Path, tmp_path: Path
) -> None:
    process = service.start(sys.executable, "-c", FORKS, str(tmp_path / "go"))
    agent = start_agent("profile", *OPTIONS, "--pprof", str(output))
    (tmp_path / "go").touch()
    assert until((tmp_path / "gone").exists), "it did not end"
    assert until(lambda: _state(process.pid) == "S")  # no sample comes between flush and stats
    stats = agent.call("flush")
    found = list(stacks(output))
    whole = sum(each.count for each in found)
    assert whole == stats["events"]
    assert len({each.pid for each in found}) > 10
    assert sum(each.count for each in found if each.frames) > 0.9 * whole
    burnt = [each for each in found if any(frame.name == "burn" for frame in each.frames)]
    assert sum(each.count for each in burnt) > 0.5 * whole
    assert by_executable(receiver) == {executable(sys.executable): whole}


def test_programs_that_ended_are_named_by_their_files(
    service: Any, start_agent: Callable[..., Any], receiver: Any, busy: Path, output: Path
) -> None:
    agent = start_agent("profile", *OPTIONS, "--pprof", str(output))
    for _ in range(8):  # the pause lets a busy machine look at it
        assert service.start(str(busy), "70", "1").wait(120) == 0
    stats = agent.call("flush")
    named = folded(output)
    assert sum(named.values()) == stats["events"] > 20
    assert stats["lost"] == 0
    assert any("main;hot;work" in stack for stack in named)
    assert has_its_share(named, "hot", "cold")
    assert by_executable(receiver)["busy"] > 0.9 * stats["events"]


def test_what_ran_before_an_exec_has_its_own_names(
    service: Any,
    start_agent: Callable[..., Any],
    receiver: Any,
    busy: Path,
    output: Path,
    tmp_path: Path,
) -> None:
    agent = start_agent("profile", *OPTIONS, "--drain", "0.1", "--pprof", str(output))
    go = tmp_path / "go"
    process = service.start(sys.executable, "-c", THEN_ANOTHER, str(busy), str(go))
    assert until(lambda: agent.call("stats")["events"] > 100), "it was not sampled"
    go.touch()
    exe = f"/proc/{process.pid}/exe"
    assert until(lambda: os.readlink(exe) == os.path.realpath(busy)), "it did not go on"
    assert until(lambda: _state(process.pid) == "S"), "it did not pause"
    stats = agent.call("flush")
    before = [each for each in stacks(output) if any(f.name == "before" for f in each.frames)]
    assert all(each.frames[0].mapping.path != os.path.realpath(busy) for each in before)  # type: ignore[union-attr]
    named = folded(output, process.pid)
    assert sum(n for stack, n in named.items() if "before" in stack) > 10
    assert sum(n for stack, n in named.items() if "main;hot;work" in stack) > 10
    assert not any("before" in stack and "hot" in stack for stack in named)
    told = by_executable(receiver)
    assert set(told) == {executable(sys.executable), "busy"}
    assert sum(told.values()) == stats["events"]


def test_what_nobody_looked_at_in_time_is_lost_and_told_why(
    service: Any, start_agent: Callable[..., Any], receiver: Any, busy: Path, output: Path
) -> None:
    agent = start_agent("profile", *OPTIONS, "--pprof", str(output))
    agent.process.send_signal(signal.SIGSTOP)
    try:
        assert service.start(str(busy), "300").wait(120) == 0
    finally:
        agent.process.send_signal(signal.SIGCONT)
    stats = agent.call("flush")
    unknown = sum(each.count for each in stacks(output) if not each.frames)
    assert 0 < unknown <= stats["lost"] == stats["lost_process_ended"] <= stats["events"]
    lost = by_executable(receiver, "profile.samples.lost")
    assert lost == {"process_ended": stats["lost_process_ended"]}
    assert sum(by_executable(receiver).values()) == stats["events"]


def test_processes_that_cannot_be_seen_are_refused(
    service: Any, launch: Callable[..., Any], receiver: Any, tmp_path: Path
) -> None:
    """As in `docker run --privileged` without --pid=host."""
    service.start("sleep", "1000")
    process, ready = launch(
        tmp_path / "log", "profile", tmp_path / "s", service.path, receiver.url,
        through=("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
    )  # fmt: skip
    assert processes.stop(process) == 2
    assert ready["ready"] is False
    assert "cannot be seen from here" in ready["what"]
    assert "--pid=host" in ready["next_step"]


def test_a_cpu_that_comes_is_sampled(
    bpf_objects: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("there is one CPU")
    first, last = cpus[0], cpus[-1]
    (tmp_path / "online").write_text(f"{first}\n")
    monkeypatch.setattr(perf, "_ONLINE", tmp_path / "online")
    obj = Object(bpf_objects / "empty.bpf.o")
    try:
        for program in obj.programs:
            if program.name != "on_perf_event":
                program.skip()
        obj.load()
        sampler = perf.Sampler(obj.program("on_perf_event").fd, 199)
        burning = processes.spawn([sys.executable, "-c", BURN], log=tmp_path / "log", cpus=[last])
        try:
            sampler.enable()
            assert _samples(obj, last) == 0
            (tmp_path / "online").write_text(f"{first},{last}\n")
            sampler.follow()
            assert until(lambda: _samples(obj, last) > 0), "the CPU that came is not sampled"
            (tmp_path / "online").write_text(f"{first}\n")
            sampler.follow()
            seen = _samples(obj, last)
            (tmp_path / "online").write_text(f"{first}-{last}\n")
            sampler.destroy()
            sampler.follow()
            assert _samples(obj, last) == seen  # it is off
        finally:
            processes.stop(burning)
            sampler.close()
    finally:
        obj.close()


def _samples(obj: Object, cpu: int) -> int:
    counted = obj.map("samples")
    return int.from_bytes(counted.cpu_values(counted.lookup(bytes(4)) or b"")[cpu], sys.byteorder)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
