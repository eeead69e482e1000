"""`--containers` on the real kernel: records tell which of the scope's containers they are of."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bpf.conftest import remove_cgroup
from tests.bpf.contained import (
    BURNER,
    SERVER,
    Container,
    ask,
    opened,
    profiled,
    reporting,
    requests,
    samples,
    told,
    watching,
)
from tests.bpf.profiled import by_container
from tests.waiting import until

pytestmark = pytest.mark.bpf

POD = "pod2a6f4d5e-1b2c-4d3e-8f90-0123456789ab"
ONE, OTHER = "0af1" * 16, "b2c3" * 16
UID = POD.removeprefix("pod")
_BURNT = {"one", "other", "nobody"}


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
    remove_cgroup(service.path / POD)


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


def test_executions_and_connects_of_containers_are_told_apart(
    start_agent: Any, receiver: Any, service: Any, make: Make, tmp_path: Path
) -> None:
    port = service.serve(sys.executable, str(SERVER), "127.0.0.1")
    policy = reporting(tmp_path)
    agent = start_agent("guard", "--containers", "--policy", policy, "--drain=100")
    for container, times in ((make(ONE), 3), (make(OTHER), 1)):
        for _ in range(times):
            container.connect(port)
        container.remove()
    agent.call("flush")
    executed = told(receiver, "process.exec")
    assert {of: len(events) for of, events in executed.items()} == {ONE: 3, OTHER: 1}
    connected = told(receiver, "network.connect")
    assert {of: len(events) for of, events in connected.items()} == {ONE: 3, OTHER: 1}


@pytest.mark.parametrize("hook", ["best", "fanotify"])
def test_opened_files_of_containers_are_told_apart(
    start_agent: Any, receiver: Any, make: Make, tmp_path: Path, hook: str
) -> None:
    policy, secret = watching(tmp_path)
    agent = start_agent(
        "guard", "--containers", "--policy", policy, "--drain=100", "--open-hook", hook
    )
    ended, running = make(ONE), make(OTHER)
    ended.run("cat", str(secret))
    ended.remove()
    running.hold(secret)
    agent.call("flush")
    opens = told(receiver, "file.open")
    assert {of: len(events) for of, events in opens.items()} == {ONE: 1, OTHER: 1}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "pprof"
    folder.mkdir()
    return folder


def test_stacks_of_two_containers_and_of_none_are_told_apart(
    start_agent: Any,
    receiver: Any,
    service: Any,
    make: Make,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.node.name=worker")
    make(ONE).burn("one")  # older than the agent
    agent = start_agent("profile", "--containers", "--frequency=99", f"--pprof={output}")
    make(OTHER).burn("other")
    service.start(sys.executable, "-c", BURNER.format(name="nobody", seconds=1e9))

    def functions() -> dict[str, set[str]]:
        agent.call("flush")
        return {
            of: {frame.name for each in some for frame in each.frames} & _BURNT
            for of, some in by_container(output).items()
        }

    assert until(lambda: functions() == {ONE: {"one"}, OTHER: {"other"}, "": {"nobody"}})
    agent.call("off")
    events = agent.call("flush")["events"]
    assert receiver.profiles == []  # they are sent where that is asked for
    written = by_container(output)
    assert {of: sum(each.count for each in some) for of, some in written.items()} == (
        samples(receiver)
    )
    assert sum(samples(receiver).values()) == events
    assert {each.labels for each in written.pop("")} == {()}
    for container, some in written.items():
        (of,) = (dict(labels) for labels in {each.labels for each in some})
        assert (of["k8s.pod.uid"], of["k8s.node.name"]) == (UID, "worker")
        assert of["service.instance.id"] == container


def test_stacks_of_a_container_that_is_gone_when_they_are_read_are_its_own(
    start_agent: Any, receiver: Any, make: Make, output: Path
) -> None:
    options = ("--frequency=99", "--interval=600", f"--pprof={output}")
    agent = start_agent("profile", "--containers", *options)
    short = make(ONE)
    assert short.run(sys.executable, "-c", BURNER.format(name="one", seconds=0.5)) == 0
    short.remove()
    events = agent.call("flush")["events"]
    assert events > 0
    assert samples(receiver) == {ONE: events}
    assert list(by_container(output)) == [ONE]


def test_stacks_are_sent_as_profiles_of_their_containers(
    start_agent: Any, receiver: Any, service: Any, make: Make
) -> None:
    agent = start_agent("profile", "--containers", "--frequency=99", "--profiles=on")
    make(ONE).burn("one")
    make(OTHER).burn("other")
    service.start(sys.executable, "-c", BURNER.format(name="nobody", seconds=1e9))

    def functions() -> dict[str, set[str]]:
        agent.call("flush")
        return {of: found.functions & _BURNT for of, found in profiled(receiver).items()}

    assert until(lambda: functions() == {ONE: {"one"}, OTHER: {"other"}, "": {"nobody"}})
    agent.call("off")
    stats = agent.call("flush")
    assert {of: found.samples for of, found in profiled(receiver).items()} == samples(receiver)
    assert stats["waiting"] == 0
    assert stats["dropped"].keys() <= {"metrics"}  # which newer ones told again
    sent = len(receiver.profiles)
    agent.call("flush")
    assert len(receiver.profiles) == sent  # nothing was sampled, and nothing is sent
