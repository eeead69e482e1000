"""A program of the user's own: its environment, and a port that closed connections still have."""

from __future__ import annotations

import os
import secrets
import socket
import struct
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import WorkloadError
from harness.linux import cgroup, mount, ports
from harness.node import service
from harness.plan import trials, workloads
from harness.wire.spec import Spawn

pytestmark = pytest.mark.e2e
SERVER = (
    "import os, http.server as h; h.test(h.SimpleHTTPRequestHandler, port=int(os.environ['PORT']))"
)
LINGERING = """
import socket, sys
listener = socket.socket()  # without SO_REUSEADDR
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
while True:
    one, _ = listener.accept()
    asked = one.recv(1000)
    one.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
    if b"/first" not in asked:  # else it closes first, and so the kernel keeps the port
        one.recv(1000)
    one.close()
"""


@pytest.fixture
def place() -> Iterator[Path]:
    root = mount.find("cgroup2")
    if root is None or os.geteuid():
        pytest.skip("root and cgroup v2 are needed")
    path = root / f"test-own-program-{secrets.token_hex(4)}"
    cgroup.create(path)
    yield path
    cgroup.remove(path)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def asked(command: str, port: int) -> Spawn:
    found = trials.service(workloads.own(command, f"http://127.0.0.1:{port}/"))
    assert isinstance(found, Spawn)
    return found


def answer(url: str) -> int:
    with urllib.request.urlopen(url, timeout=60) as found:
        return int(found.status)


def test_assignments_before_a_program_are_its_environment(
    tmp_path: Path, place: Path, free_port: int
) -> None:
    command = f"PORT={{port}} GREETING='good day' {sys.executable} -c \"{SERVER}\""
    started = service.spawn(asked(command, free_port), log=tmp_path / "log", cgroup=place)
    try:
        assert answer(started.url) == 200
        environ = Path(f"/proc/{started.process.pid}/environ").read_text().split("\0")
        assert {f"PORT={free_port}", "GREETING=good day"} <= set(environ)
        assert any(each.startswith("PATH=") for each in environ)
    finally:
        started.stop()


def test_a_port_that_closed_connections_keep_is_waited_for(
    tmp_path: Path, place: Path, free_port: int
) -> None:
    """As the server of a hundred tutorials, which cannot listen again at once."""
    (tmp_path / "server.py").write_text(LINGERING)
    spec = asked(f"{sys.executable} {tmp_path}/server.py {free_port}", free_port)
    told, looks = list[str](), list[int]()
    first = service.spawn(spec, log=tmp_path / "first.log", cgroup=place, tell=told.append)
    with socket.create_connection(("127.0.0.1", free_port), timeout=60) as client:
        client.sendall(b"GET /first HTTP/1.0\r\n\r\n")
        while client.recv(1000):
            pass
        first.stop()
        assert told == []

        def let_go() -> None:
            if not looks:  # by an RST, so that the kernel keeps nothing of it any more
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            looks.append(1)

        second = service.spawn(
            spec, log=tmp_path / "second.log", cgroup=place, tell=told.append, attend=let_go
        )
    try:
        assert answer(second.url) == 200
    finally:
        second.stop()
    assert "Address already in use" in (tmp_path / "second.log").read_text()
    assert len(told) == 1
    assert f"for port {free_port}, which the kernel still keeps" in told[0]
    assert looks


def test_who_ends_while_it_is_looked_for_holds_no_port(
    tmp_path: Path, place: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server.py").write_text(LINGERING)
    spec = asked(f"{sys.executable} {tmp_path}/server.py {free_port}", free_port)
    server = service.spawn(spec, log=tmp_path / "log", cgroup=place)
    assert ports.holder(free_port) == f"process {server.process.pid} ({Path(sys.executable).name})"
    look = ports._sockets

    def end_then(process: Path) -> list[str]:
        found = list(look(process))
        if process.name == str(server.process.pid):
            server.stop()
        return found

    monkeypatch.setattr(ports, "_sockets", end_then)
    assert ports.holder(free_port) is None


def test_a_program_that_fails_for_another_reason_is_not_started_again(
    tmp_path: Path, place: Path, free_port: int
) -> None:
    spec = asked("sh -c 'echo no such table >&2; exit 3'", free_port)
    with pytest.raises(WorkloadError, match=r"exit code 3.*no such table"):
        service.spawn(spec, log=tmp_path / "log", cgroup=place)
    assert (tmp_path / "log").read_text() == "no such table\n"
