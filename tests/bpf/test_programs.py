"""BPF programs that were not there before: those of collectors that outlived their trial."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.linux import bpf_programs, processes, syscall

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
    assert processes.announced(process, 30), (tmp_path / "log").read_text()
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


def test_nothing_is_held_by_one_that_has_ended(holder: processes.Process) -> None:
    processes.stop(holder)
    assert bpf_programs.held(holder.pid) == set()
