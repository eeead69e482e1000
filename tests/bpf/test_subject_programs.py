"""Whose a program is that appears while somebody else's collector loads its own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.collectors import resolve
from harness.linux import bpf_programs, mount, syscall
from harness.meters import bpfstats
from harness.node.subject_process import SubjectProcess
from harness.plan import trials
from tests.bpf.conftest import Service

pytestmark = pytest.mark.bpf

SET_BPF, TRACEPOINT_EVENT = 0x40042408, 2  # PERF_EVENT_IOC_SET_BPF, PERF_TYPE_TRACEPOINT
# loads a program, pins it, and holds it until it is told that this was seen
LOADER = """
import os, sys, time
from harness.linux import syscall
place = sys.argv[1]
held = syscall.load_program(syscall.SOCKET_FILTER, name="theirs")
syscall.pin(held, os.path.join(place, "bpf", "theirs"))
open(os.path.join(place, "loaded"), "w").close()
while not os.path.exists(os.path.join(place, "seen")):
    time.sleep(0.01)
os.close(held)
print("ready", flush=True)
time.sleep(600)
"""
DEFINITION = """
name = "loader"
purpose = "Pins its program and lets go of it"
kind = "process"
method = "block"
command = ["{python}", "{here}/loader.py", "{here}"]
ready = "^ready$"

[source]
way = "path"
name = "python3"
"""


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A BPF file system of our own, so that nobody's pins are in it."""
    point = tmp_path / "bpf"
    point.mkdir()
    syscall.mount("bpf", point)
    monkeypatch.setattr(mount, "find", lambda _: point)
    yield point
    syscall.unmount(point, detach=True)


class Neighbour:
    """Pins a program of its own while the collector loads, and lets that go on once it was seen."""

    def __init__(self, place: Path) -> None:
        self._place, self._looks = place, 0
        self.program = 0

    def attend(self) -> None:
        if not self.program:
            descriptor = syscall.load_program(syscall.SOCKET_FILTER, name="neighbour")
            syscall.pin(descriptor, self._place / "bpf" / "neighbour")
            self.program = bpfstats.read(descriptor).id
            os.close(descriptor)
        self._looks += (self._place / "loaded").exists()
        if self._looks > 2:
            (self._place / "seen").touch()


def test_what_somebody_else_pins_meanwhile_is_named_and_left_alone(
    tmp_path: Path, pins: Path, service: Service
) -> None:
    (tmp_path / "loader.py").write_text(LOADER)
    (tmp_path / "loader.toml").write_text(DEFINITION)
    neighbour = Neighbour(tmp_path)
    testbed: Any = SimpleNamespace(
        service=SimpleNamespace(cgroup=service.path, url="http://127.0.0.1:80", pids=list),
        machine=SimpleNamespace(
            socket=lambda name: tmp_path / name, make=lambda _: service.path, scratch=tmp_path
        ),
        placement=SimpleNamespace(collector=()),
        receiver=SimpleNamespace(mark=lambda: 0, url=""),
        attend=neighbour.attend,
    )
    spec = trials.collector(resolve(str(tmp_path / "loader.toml")))
    one = SubjectProcess(spec, testbed, tmp_path)
    one.start()
    try:
        one.await_ready()
        (mine,) = one.program_ids
        assert mine != neighbour.program
    finally:
        remarks = one.remove()["remarks"]
    assert not (pins / "theirs").exists()
    assert (pins / "neighbour").exists()
    assert bpf_programs.ids() & {mine, neighbour.program} == {neighbour.program}
    (told,) = [each for each in remarks if "appeared while loader loaded" in each]
    assert f"{neighbour.program} (neighbour, held by no process" in told
    assert str(mine) not in told


def test_what_a_process_attached_to_a_tracepoint_is_its_own(tmp_path: Path) -> None:
    """Though it has closed the program's own descriptor."""
    point = tmp_path / "tracing"
    point.mkdir()
    syscall.mount("tracefs", point)
    try:
        number = int((point / "events/sched/sched_process_exec/id").read_text())
    finally:
        syscall.unmount(point, detach=True)
    program = syscall.load_program(syscall.TRACEPOINT, name="attached")
    event = syscall.open_perf_event(TRACEPOINT_EVENT, number)  # disabled: it never runs
    try:
        told = bpfstats.read(program).id
        assert told not in bpf_programs.attached(os.getpid())
        fcntl.ioctl(event, SET_BPF, program)
    finally:
        os.close(program)
    try:
        assert told in bpf_programs.attached(os.getpid())
        assert told not in bpf_programs.held(os.getpid())
    finally:
        os.close(event)
