"""`--containers` on the real kernel: records tell which of the scope's containers they are of."""

from __future__ import annotations

import contextlib
import http.client
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.linux import processes

pytestmark = pytest.mark.bpf

SERVER = Path(__file__).with_name("http_server.py")
POD = "pod2a6f4d5e-1b2c-4d3e-8f90-0123456789ab"
ONE, OTHER = "0af1" * 16, "b2c3" * 16
UID = POD.removeprefix("pod")


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
        told = processes.announced(self.process, 30)
        assert told is not None, self.log.read_text()
        return int(told["port"])

    def remove(self) -> None:
        if self.process is not None:
            processes.stop(self.process)
        with contextlib.suppress(FileNotFoundError):
            self.path.rmdir()


Make = Callable[[str], Container]


@pytest.fixture
def make(service: Any, tmp_path: Path) -> Iterator[Make]:
    """Make containers in one pod below the scope."""
    made: list[Container] = []

    def one(name: str) -> Container:
        path = service.path / POD / name
        path.mkdir(parents=True)
        made.append(Container(path, tmp_path / "container.log"))
        return made[-1]

    yield one
    for each in made:
        each.remove()
    with contextlib.suppress(FileNotFoundError):
        (service.path / POD).rmdir()


def ask(port: int, times: int) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as client:
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


def spans(receiver: Any) -> Counter[str]:
    return Counter(of.get("container.id", "") for of, _ in of_spans(receiver))


def of_spans(receiver: Any) -> list[tuple[dict[str, Any], Any]]:
    return [(of, record) for of, record in receiver.told if type(record).__name__ == "Span"]


def test_requests_of_two_containers_and_of_none_are_told_apart(
    start_agent: Any, receiver: Any, service: Any, make: Make
) -> None:
    before = make(ONE)
    agent = start_agent("http", "--containers", "--sample=1", "--service-name=node")
    ask(before.serve(), 23)
    ask(make(OTHER).serve(), 5)
    ask(service.serve(sys.executable, str(SERVER), "127.0.0.1"), 2)
    assert agent.call("flush")["events"] == 30
    assert requests(receiver) == {ONE: 23, OTHER: 5, "": 2}
    assert spans(receiver) == {ONE: 23, OTHER: 5, "": 2}
    for of, _ in of_spans(receiver):
        if "container.id" in of:
            assert (of["k8s.pod.uid"], of["service.instance.id"]) == (UID, of["container.id"])
            assert "service.name" not in of
        else:
            assert of["service.name"] == "node"


def test_a_container_that_is_gone_when_its_records_are_read_is_known(
    start_agent: Any, receiver: Any, make: Make
) -> None:
    agent = start_agent("http", "--containers", "--sample=1", "--drain=100", "--interval=100")
    short = make(ONE)
    ask(short.serve(), 23)
    short.remove()
    assert not short.path.exists()
    agent.call("flush")
    assert requests(receiver) == {ONE: 23}
    assert spans(receiver) == {ONE: 23}


def test_without_it_nothing_is_told_apart_and_series_have_no_cgroup(
    start_agent: Any, receiver: Any, make: Make
) -> None:
    agent = start_agent("http", "--sample=1")
    for name in (ONE, OTHER):
        ask(make(name).serve(), 4)
    agent.call("flush")
    assert requests(receiver) == {"": 8}
    (series,) = {p.count for p in receiver.points("http.server.request.duration")}
    assert series == 4  # by port, as ever


def told(receiver: Any, name: str) -> dict[str, list[dict[str, Any]]]:
    """What log records of this name say, by the container that they are of."""
    found: dict[str, list[dict[str, Any]]] = {}
    for of, record in receiver.told:
        if getattr(record, "event_name", "") == name:
            found.setdefault(of.get("container.id", ""), []).append(receiver.attributes(record))
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


def test_connections_of_two_containers_and_of_none_are_told_apart(
    start_agent: Any, receiver: Any, service: Any, make: Make
) -> None:
    ports = [make(ONE).serve(), make(OTHER).serve()]
    ports.append(service.serve(sys.executable, str(SERVER), "127.0.0.1"))
    agent = start_agent("flows", "--containers", "--service-name=node")
    for port, times in zip(ports, (23, 5, 2), strict=True):
        for _ in range(times):
            ask(port, 1)
    agent.call("flush")
    assert opened(receiver) == {ONE: 23, OTHER: 5, "": 2}


def test_connections_of_a_container_that_is_gone_are_its_own(
    start_agent: Any, receiver: Any, make: Make
) -> None:
    agent = start_agent("flows", "--containers", "--interval=100")
    short = make(ONE)
    port = short.serve()
    for _ in range(5):
        ask(port, 1)
    short.remove()
    agent.call("flush")
    assert opened(receiver) == {ONE: 5}


POLICY = """
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


def test_executions_and_connects_of_containers_are_told_apart(
    start_agent: Any, receiver: Any, service: Any, make: Make, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    port = service.serve(sys.executable, str(SERVER), "127.0.0.1")
    agent = start_agent("guard", "--containers", "--policy", str(policy), "--drain=100")
    program = f"import socket; socket.create_connection(('127.0.0.1', {port}))"
    for container, times in ((make(ONE), 3), (make(OTHER), 1)):
        for _ in range(times):
            processes.spawn(
                [sys.executable, "-c", program], log=container.log, cgroup=container.path
            ).wait(30)
        container.remove()
    agent.call("flush")
    executed = told(receiver, "process.exec")
    assert {of: len(events) for of, events in executed.items()} == {ONE: 3, OTHER: 1}
    connected = told(receiver, "network.connect")
    assert {of: len(events) for of, events in connected.items()} == {ONE: 3, OTHER: 1}


OPENER = """
import time
held = open({secret!r})
print('{{"ready": true}}', flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("hook", ["best", "fanotify"])
def test_opened_files_of_containers_are_told_apart(
    start_agent: Any, receiver: Any, make: Make, tmp_path: Path, hook: str
) -> None:
    secret = tmp_path / "secret"
    secret.touch()
    policy = tmp_path / "policy.toml"
    policy.write_text(
        f'[[rules]]\nname = "secret"\nevent = "open"\nmatch = ["{secret}"]\naction = "report"\n'
    )
    agent = start_agent(
        "guard", "--containers", "--policy", str(policy), "--drain=100", "--open-hook", hook
    )
    ended, running = make(ONE), make(OTHER)
    processes.spawn(["cat", str(secret)], log=ended.log, cgroup=ended.path).wait(30)
    ended.remove()
    script = OPENER.format(secret=str(secret))
    running.process = processes.spawn(
        [sys.executable, "-c", script], log=running.log, cgroup=running.path
    )
    assert processes.announced(running.process, 30) is not None
    agent.call("flush")
    opens = told(receiver, "file.open")
    assert {of: len(events) for of, events in opens.items()} == {ONE: 1, OTHER: 1}
