"""BPF programs that were not there before: those of collectors that outlived their trial."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.collectors import resolve
from harness.errors import CollectorError
from harness.linux import bpf_programs, processes, syscall
from harness.node.agent_process import AgentProcess
from harness.node.machine import Machine
from harness.plan import trials
from harness.targets.vm import remains

pytestmark = [
    pytest.mark.bpf,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to load BPF programs"),
]

HOLDER = """
import time
from harness.linux import syscall

syscall.load_program(syscall.SOCKET_FILTER, name="test_left")
print('{"ready": true}', flush=True)
time.sleep(600)
"""


@pytest.fixture
def loaded() -> Iterator[int]:
    """The descriptor of a program that this process loaded."""
    descriptor = syscall.load_program(syscall.SOCKET_FILTER, name="test_here")
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[processes.Process]:
    """A process that loaded a program."""
    process = processes.spawn([sys.executable, "-c", HOLDER], log=tmp_path / "log")
    assert processes.announced(process, 60), (tmp_path / "log").read_text()
    yield process
    processes.stop(process)


def test_what_a_process_holds_is_loaded_and_has_its_name(holder: processes.Process) -> None:
    (own,) = bpf_programs.held(holder.pid)
    assert own in bpf_programs.ids()
    assert bpf_programs.described([own]) == [f"{own} (test_left, held by process {holder.pid})"]


def test_what_is_left_of_a_trial_is_found_and_what_is_known_is_not(
    loaded: int, holder: processes.Process
) -> None:
    mine, theirs = bpf_programs.held(os.getpid()), bpf_programs.held(holder.pid)
    before = bpf_programs.ids() - mine - theirs
    assert bpf_programs.appeared(before, mine, seconds=0) >= theirs
    assert not bpf_programs.appeared(before, {*mine, *theirs}, seconds=0) & {*mine, *theirs}


def test_what_is_being_freed_is_waited_for(holder: processes.Process) -> None:
    theirs = bpf_programs.held(holder.pid)
    before = bpf_programs.ids() - theirs
    processes.stop(holder, grace_seconds=0)
    assert not bpf_programs.appeared(before, seconds=30) & theirs
    (told,) = bpf_programs.described(theirs)
    assert "gone by now" in told


def test_a_program_that_somebody_loads_while_a_run_lasts_is_told(
    holder: processes.Process, tmp_path: Path
) -> None:
    (theirs,) = bpf_programs.held(holder.pid)
    told = f"{theirs} (test_left, held by process {holder.pid})"
    with Machine(f"test-{os.getpid()}", journal=tmp_path / "journal") as machine:
        assert told not in machine.strange_programs()  # it was there before
        mine = syscall.load_program(syscall.SOCKET_FILTER, name="test_new")
        (own,) = bpf_programs.held(os.getpid())
        for _ in range(2):
            assert f"{own} (test_new, held by process {os.getpid()})" in machine.strange_programs()
        os.close(mine)
        bpf_programs.remaining([own], seconds=30)
        assert not [each for each in machine.strange_programs() if each.startswith(f"{own} ")]


def test_a_collector_whose_programs_stay_loaded_does_not_end_silently(
    loaded: int, tmp_path: Path
) -> None:
    """As if it had pinned one: this process holds it."""
    (mine,) = bpf_programs.held(os.getpid())
    ready = f'{{"ready": true, "programs": [{{"id": {mine}}}]}}'
    serve = "from harness.wire.control import Server; from pathlib import Path; import sys"
    code = f"{serve}; server = Server(Path(sys.argv[1]), {{}}); print({ready!r}, flush=True)"
    command = (sys.executable, "-c", f"{code}; server.serve()", "{control}")
    with Machine(f"test-{os.getpid()}", journal=tmp_path / "journal") as machine:
        collector = AgentProcess(
            replace(trials.collector(resolve("http")), name="mine", agent="", command=command),
            target_cgroup=machine.make("workload"), own_cgroup=machine.make("agent-mine"),
            otlp_url="http://127.0.0.1:4318", folder=tmp_path, socket=machine.work / "mine.sock",
        )  # fmt: skip
        collector.start()
        collector.await_ready()
        with pytest.raises(CollectorError, match=rf"stay loaded: {mine} \(test_here, held by"):
            collector.kill()


def test_where_nobody_may_ask_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(last: int) -> int | None:
        raise PermissionError(last)

    monkeypatch.setattr(syscall, "next_program_id", refuse)
    assert bpf_programs.ids() == frozenset()


def test_nothing_is_held_by_one_that_has_ended(holder: processes.Process) -> None:
    processes.stop(holder)
    assert bpf_programs.held(holder.pid) == set()


def test_a_machine_that_is_asked_over_ssh_knows_what_is_loaded(loaded: int) -> None:
    """By the script that `down --verify` runs on machines with their own Python."""
    said = Path(f"/proc/self/fdinfo/{loaded}").read_text()
    (number,) = re.findall(r"prog_id:\s*(\d+)", said)
    script, about = remains.words([int(number), 2**31 - 1], root="/nowhere")
    done = processes.run([sys.executable, "-c", script, about])
    assert json.loads(done.stdout) == [f"the BPF program {number} is loaded"]
