"""Containers below a scope, and what is told of them; for test_containers and test_selected."""

from __future__ import annotations

import contextlib
import http.client
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.linux import processes
from tests.bpf.conftest import remove_cgroup
from tests.otlp_profiles import Reader

SERVER = Path(__file__).with_name("http_server.py")
_POLICY = """
[[rules]]
name = "started"
event = "exec"
match = "*"
action = "report"

[[rules]]
name = "connected"
event = "connect"
match = ["127.0.0.0/8"]
action = "report"
"""
BURNER = """
import time
def {name}(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
print('{{"ready": true}}', flush=True)
{name}({seconds})
"""
OPENER = """
import time
held = open({secret!r})
print('{{"ready": true}}', flush=True)
time.sleep(60)
"""


@dataclass
class Container:
    """A cgroup as a kubelet makes one, and what runs in it."""

    path: Path
    log: Path
    process: processes.Process | None = None

    def serve(self) -> int:
        self.process = processes.spawn(
            [sys.executable, str(SERVER), "127.0.0.1"], log=self.log, cgroup=self.path
        )
        told = processes.announced(self.process, 60)
        assert told is not None, self.log.read_text()
        return int(told["port"])

    def run(self, *argv: str) -> int:
        """A program to its end; its exit code."""
        return processes.spawn(argv, log=self.log, cgroup=self.path).wait(60)

    def connect(self, port: int) -> int:
        """A program that connects, to its end."""
        program = f"import socket; socket.create_connection(('127.0.0.1', {port}))"
        return self.run(sys.executable, "-c", program)

    def hold(self, file: Path) -> None:
        """Open a file, and keep it open."""
        argv = [sys.executable, "-c", OPENER.format(secret=str(file))]
        self.process = processes.spawn(argv, log=self.log, cgroup=self.path)
        assert processes.announced(self.process, 60) is not None

    def burn(self, name: str) -> None:
        """Take CPU time in a function of this name from now on."""
        argv = [sys.executable, "-c", BURNER.format(name=name, seconds=1e9)]
        self.process = processes.spawn(argv, log=self.log, cgroup=self.path)
        assert processes.announced(self.process, 60) is not None

    def remove(self) -> None:
        if self.process is not None:
            processes.stop(self.process)
        remove_cgroup(self.path)


def reporting(folder: Path) -> str:
    """A policy that reports each execution and each connect to this machine."""
    policy = folder / "policy.toml"
    policy.write_text(_POLICY)
    return str(policy)


def watching(folder: Path) -> tuple[str, Path]:
    """A policy that reports who opens a file, and the file."""
    secret, policy = folder / "secret", folder / "policy.toml"
    secret.touch()
    policy.write_text(
        f'[[rules]]\nname = "secret"\nevent = "open"\nmatch = ["{secret}"]\naction = "report"\n'
    )
    return str(policy), secret


def ask(port: int, times: int) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as client:
        for _ in range(times):
            client.request("GET", "/")
            client.getresponse().read()


def requests(receiver: Any) -> dict[str, int]:
    """Requests by the container that they are of, as was told last; empty: of none."""
    found = {}
    for of, record in receiver.told:
        if getattr(record, "name", "") == "http.server.request.duration":
            found[of.get("container.id", "")] = sum(p.count for p in record.histogram.data_points)
    return found


def told(receiver: Any, name: str) -> dict[str, list[dict[str, Any]]]:
    """What log records of this name say, by the container that they are of."""
    found: dict[str, list[dict[str, Any]]] = {}
    for of, record in receiver.told:
        if getattr(record, "event_name", "") == name:
            found.setdefault(of.get("container.id", ""), []).append(receiver.attributes(record))
    return found


def samples(receiver: Any) -> dict[str, int]:
    """Samples by the container that they are of, as was told last; empty: of none."""
    return {
        of.get("container.id", ""): sum(point.as_int for point in record.sum.data_points)
        for of, record in receiver.told
        if getattr(record, "name", "") == "profile.samples"
    }


@dataclass
class Profiled:
    """What was sent of a container's stacks: how many samples, and functions in them."""

    samples: int = 0
    functions: set[str] = field(default_factory=set)


def profiled(receiver: Any) -> dict[str, Profiled]:
    """OTLP profiles by the container that they are of; empty: of none."""
    found: dict[str, Profiled] = {}
    for request in receiver.profiles:
        for of, stacks in Reader(request).stacks().items():
            own = found.setdefault(of, Profiled())
            for places, values, _ in stacks:
                own.samples += sum(values)
                own.functions |= {function for _, _, function in places}
    return found


def opened(receiver: Any) -> dict[str, int]:
    """Connections that servers took, by container; empty: of none."""
    found: dict[str, int] = {}
    for of, record in receiver.told:
        if getattr(record, "name", "") == "tcp.connections.opened":
            points = [
                point.as_int
                for point in record.sum.data_points
                if receiver.attributes(point)["tcp.role"] == "server"
            ]
            found[of.get("container.id", "")] = sum(points)
    return found
