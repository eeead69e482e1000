"""A process whose name is no UTF-8 is metered, described and found like any other."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.agent import opener, policy_paths
from harness.agent.policy import Rule
from harness.agent.pprof import Builder, Frame, Mapping, stacks
from harness.agent.text import text
from harness.linux import mount, ports, processes
from harness.linux.procfs import HOST
from harness.meters import host, memory
from harness.node import symbols
from tests.waiting import PATIENCE_SECONDS

ODD = b"\xff\xfe\xd0"
TOLD = "\ufffd\ufffd\ufffd"
CODE = """
import ctypes, socket, time
ctypes.CDLL(None).prctl(15, b"\\xff\\xfe\\xd0", 0, 0, 0)  # PR_SET_NAME
server = socket.create_server(("127.0.0.1", 0))
print('{"ready": true, "port": %d}' % server.getsockname()[1], flush=True)
time.sleep(600)
"""


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """A process of that name, and the port that it listens on."""
    process = processes.spawn([sys.executable, "-c", CODE], log=tmp_path / "log")
    try:
        told = processes.announced(process, PATIENCE_SECONDS)
        assert told is not None
        yield process.pid, int(told["port"])
    finally:
        processes.stop(process)


def test_its_memory_is_metered(odd: tuple[int, int]) -> None:
    pid, _ = odd
    assert memory.peak_rss_bytes(pid) > 1 << 20
    assert memory.pss_bytes([pid]) > 1 << 20
    assert memory.map_bytes(pid) == 0


def test_it_is_named_as_the_holder_of_its_port(odd: tuple[int, int]) -> None:
    pid, port = odd
    assert ports.holder(port) == f"process {pid} ({TOLD})"


def test_it_is_known_to_be_alive(odd: tuple[int, int]) -> None:
    assert HOST.started(odd[0]) is not None
    assert HOST.name(odd[0]) == TOLD
    assert symbols._own_pid(odd[0]) == odd[0]


def test_it_is_described(odd: tuple[int, int]) -> None:
    assert opener.described(odd[0]) == {
        "process.pid": odd[0],
        "process.parent_pid": os.getpid(),
        "process.executable.name": TOLD,
        "process.executable.path": os.path.realpath(sys.executable),
    }


def test_what_ended_is_described_by_its_pid() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert opener.described(pid) == {"process.pid": pid}


def test_what_a_tool_prints_is_read() -> None:
    code = "import sys; sys.stdout.buffer.write(b'\\xff\\xfe\\xd0')"
    assert processes.run([sys.executable, "-c", code]).stdout == TOLD


def test_text_keeps_what_is_text() -> None:
    assert text("Köln") == text("Köln".encode()) == "Köln"
    assert text(ODD) == text(os.fsdecode(ODD)) == TOLD
    assert text("ж".encode()[:1]) == "\ufffd"


def test_rules_for_files_keep_their_bytes() -> None:
    rule = Rule("odd", "open", ("/x/*",), "kill")
    key, _ = policy_paths.entry(rule, 0, os.fsdecode(b"/x/" + ODD))
    assert b"/x/" + ODD + b"\0" in key
    prefixes, _ = policy_paths.tries([Rule("odd", "exec", (os.fsdecode(b"/x/" + ODD),), "kill")])
    assert any(b"/x/" + ODD + b"\0" in key for key in prefixes)


def test_profiles_hold_text() -> None:
    mapping = Mapping(1, 99, 0, os.fsdecode(b"/lib/" + ODD))
    builder = Builder(0, 1, 1)
    builder.add([Frame(7, mapping)], 1, 42, 42)
    (stack,) = stacks(builder.profile)
    assert stack.frames[0].mapping is not None
    assert stack.frames[0].mapping.path == f"/lib/{TOLD}"


def test_mounts_of_any_name_are_listed() -> None:
    odd = os.fsdecode(b"/mnt/" + ODD + b"\r\x0b")  # neither ends a line of mountinfo
    lines = f"1 0 0:1 / {odd} rw - tmpfs tmpfs rw\n2 0 0:2 / /proc rw - proc proc rw\n"
    assert [each.point for each in mount.parse(lines)] == [Path(odd), Path("/proc")]
    assert host.cpuacct_root(lines) is None


def test_a_port_of_nobody_has_no_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert ports.holder(port) is None
