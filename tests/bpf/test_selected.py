"""Selected pods on the real kernel: each collector sees theirs, and no others'."""

from __future__ import annotations

import contextlib
import http.client
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.linux import processes
from tests.bpf.conftest import remove_cgroup
from tests.bpf.contained import (
    SERVER,
    Container,
    ask,
    opened,
    reporting,
    requests,
    samples,
    told,
    watching,
)
from tests.kubernetes_api import Api
from tests.waiting import until

pytestmark = pytest.mark.bpf

SHOP, TEST, SYSTEM, LATE = (f"{n}a6f4d5e-1b2c-4d3e-8f90-0123456789ab" for n in range(1, 5))
IDS = {uid: f"{n:x}af1" * 16 for n, uid in enumerate((SHOP, TEST, SYSTEM, LATE), 1)}
SELECTED = ("--namespaces=shop", "--pod-selector=app,tier!=test", "--node-name=worker")

Make = Callable[[str], Container]


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    made.put(SHOP, "shop", app="go")
    made.put(TEST, "shop", app="go", tier="test")
    made.put(SYSTEM, "kube-system", app="dns")
    yield made
    made.close()


@pytest.fixture
def make(service: Any, tmp_path: Path) -> Iterator[Make]:
    """Make the container of a pod below the scope."""
    made: list[Container] = []

    def one(uid: str) -> Container:
        path = service.path / f"pod{uid}" / IDS[uid]
        path.mkdir(parents=True)
        made.append(Container(path, tmp_path / "container.log"))
        return made[-1]

    yield one
    for each in made:
        each.remove()
        remove_cgroup(each.path.parent)


def events(agent: Any, port: int) -> int:
    """How many more events there were for one request."""
    before = agent.call("stats")["events"]
    ask(port, 1)
    return int(agent.call("stats")["events"] - before)


def test_requests_of_selected_pods_are_seen_and_no_others(
    start_agent: Any, receiver: Any, service: Any, make: Make, api: Api
) -> None:
    ports = {SHOP: make(SHOP).serve(), TEST: make(TEST).serve()}  # older than the agent
    agent = start_agent("http", "--containers", f"--kubernetes-api={api.url}", *SELECTED)
    ports[SYSTEM] = make(SYSTEM).serve()
    ports[""] = service.serve(sys.executable, str(SERVER), "127.0.0.1")  # of no pod
    for port in ports.values():
        ask(port, 7)
    assert agent.call("flush")["events"] == 7
    assert requests(receiver) == {IDS[SHOP]: 7}


def test_responses_of_a_pod_that_is_selected_no_more_are_not_lost(
    start_agent: Any, make: Make, api: Api
) -> None:
    """On a connection that was known when it was selected."""
    port = make(SHOP).serve()  # what is new is seen a little later
    agent = start_agent("http", "--containers", f"--kubernetes-api={api.url}", *SELECTED)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as client:

        def more() -> int:
            before = agent.call("stats")["events"]
            client.request("GET", "/")
            client.getresponse().read()
            return int(agent.call("stats")["events"] - before)

        assert more() == 1
        api.put(SHOP, "shop", app="go", tier="test")
        assert until(lambda: more() == 0)
        assert more() == 0
        assert agent.call("stats")["lost_unseen"] == 0


def test_without_containers_told_apart_selected_pods_are_seen_only(
    start_agent: Any, receiver: Any, make: Make, api: Api
) -> None:
    ports = [make(uid).serve() for uid in (SHOP, TEST)]
    agent = start_agent("http", f"--kubernetes-api={api.url}", *SELECTED)
    for port in ports:
        ask(port, 3)
    assert agent.call("flush")["events"] == 3


def test_pods_that_come_go_and_change_their_labels_are_followed(
    start_agent: Any, make: Make, api: Api
) -> None:
    agent = start_agent("http", "--containers", f"--kubernetes-api={api.url}", *SELECTED)
    shop, test = make(SHOP).serve(), make(TEST).serve()
    assert until(lambda: (events(agent, shop), events(agent, test)) == (1, 0))
    api.put(SHOP, "shop", app="go", tier="test")
    api.put(TEST, "shop", app="go")
    assert until(lambda: (events(agent, shop), events(agent, test)) == (0, 1))
    late = make(LATE).serve()  # its cgroup was there before the API told of it
    assert events(agent, late) == 0
    api.put(LATE, "shop", app="new")
    assert until(lambda: events(agent, late) == 1)
    api.remove(TEST)  # its last processes are seen to the end
    api.forget()  # a watch that has to begin anew
    api.put(SHOP, "shop", app="go")
    assert until(lambda: events(agent, shop) == 1)
    assert events(agent, test) == 1


def test_connections_of_selected_pods_are_seen_and_no_others(
    start_agent: Any, receiver: Any, make: Make, api: Api
) -> None:
    ports = [make(uid).serve() for uid in (SHOP, TEST, SYSTEM)]
    agent = start_agent("flows", "--containers", f"--kubernetes-api={api.url}", *SELECTED)
    for port in ports:
        for _ in range(5):
            ask(port, 1)
    agent.call("flush")
    assert opened(receiver) == {IDS[SHOP]: 5}


def test_connections_that_are_open_when_their_pod_is_selected_are_found(
    start_agent: Any, receiver: Any, make: Make, api: Api
) -> None:
    agent = start_agent("flows", "--containers", f"--kubernetes-api={api.url}", *SELECTED)
    test = make(TEST)
    port = test.serve()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as client:
        client.request("GET", "/")
        client.getresponse().read()
        agent.call("flush")
        assert opened(receiver) == {}
        api.put(TEST, "shop", app="go")

        def found() -> bool:
            agent.call("flush")
            return opened(receiver) == {IDS[TEST]: 1}

        assert until(found)


def io(receiver: Any) -> int:
    """Bytes of connections, both ways."""
    return sum(point.as_int for point in receiver.points("tcp.io"))


def test_connections_of_a_pod_that_is_selected_no_more_are_counted_no_more(
    start_agent: Any, receiver: Any, make: Make, api: Api
) -> None:
    port = make(SHOP).serve()
    agent = start_agent("flows", "--containers", f"--kubernetes-api={api.url}", *SELECTED)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as client:

        def more() -> int:
            before = io(receiver)
            client.request("GET", "/")
            client.getresponse().read()
            agent.call("flush")
            return io(receiver) - before

        assert more() > 0
        api.put(SHOP, "shop", app="go", tier="test")
        assert until(lambda: more() == 0)
        api.put(SHOP, "shop", app="go")
        assert until(lambda: more() > 0)
        api.put(SHOP, "shop", app="go", tier="test")
        assert until(lambda: more() == 0)
    for _ in range(20):  # it closes meanwhile, which is not told, and no loss
        agent.call("flush")
        assert agent.call("stats")["lost"] == 0


DATAGRAMS = """
import socket
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(5):
    one.sendto(b"x" * 10, ("127.0.0.1", 9))
"""


def test_datagrams_of_selected_pods_are_seen_and_no_others(
    start_agent: Any, receiver: Any, make: Make, api: Api
) -> None:
    containers = [make(uid) for uid in (TEST, SHOP, SYSTEM)]
    selected = ("--udp=on", f"--kubernetes-api={api.url}", *SELECTED)
    agent = start_agent("flows", "--containers", *selected)
    for container in containers:
        container.run(sys.executable, "-c", DATAGRAMS)
    agent.call("flush")
    found = {
        of.get("container.id", ""): sum(point.as_int for point in record.sum.data_points)
        for of, record in receiver.told
        if getattr(record, "name", "") == "udp.datagrams"
    }
    assert found == {IDS[SHOP]: 5}


def test_executions_and_connects_of_selected_pods_are_seen_and_no_others(
    start_agent: Any, receiver: Any, service: Any, make: Make, api: Api, tmp_path: Path
) -> None:
    port = service.serve(sys.executable, str(SERVER), "127.0.0.1")
    containers = [make(uid) for uid in (TEST, SHOP, SYSTEM)]  # what is new is seen a little later
    selected = ("--policy", reporting(tmp_path), f"--kubernetes-api={api.url}", *SELECTED)
    agent = start_agent("guard", "--containers", *selected)
    for container in containers:
        container.connect(port)
    agent.call("flush")
    for name in ("process.exec", "network.connect"):
        assert {of: len(each) for of, each in told(receiver, name).items()} == {IDS[SHOP]: 1}


DENIED = """
[[rules]]
name = "denied"
event = "connect"
match = ["127.0.0.0/8"]
action = "kill"
"""


def test_nothing_is_denied_to_pods_that_are_not_selected(
    start_agent: Any, service: Any, make: Make, api: Api, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(DENIED)
    port = service.serve(sys.executable, str(SERVER), "127.0.0.1")
    shop, test = make(SHOP), make(TEST)
    start_agent("guard", "--policy", str(policy), f"--kubernetes-api={api.url}", *SELECTED)
    assert shop.connect(port) != 0
    assert test.connect(port) == 0


@pytest.mark.parametrize("hook", ["best", "fanotify"])
def test_opened_files_of_selected_pods_are_seen_and_no_others(
    start_agent: Any, receiver: Any, make: Make, api: Api, tmp_path: Path, hook: str
) -> None:
    policy, secret = watching(tmp_path)
    containers = [make(uid) for uid in (SHOP, TEST)]
    selected = (f"--kubernetes-api={api.url}", *SELECTED, "--open-hook", hook)
    agent = start_agent("guard", "--containers", "--policy", policy, *selected)
    for container in containers:
        container.run("cat", str(secret))
        container.hold(secret)
    agent.call("flush")
    assert {of: len(each) for of, each in told(receiver, "file.open").items()} == {IDS[SHOP]: 2}


@pytest.mark.parametrize(("options", "told_of"), [((), ""), (("--containers",), IDS[SHOP])])
def test_stacks_of_selected_pods_are_sampled_and_no_others(
    start_agent: Any, receiver: Any, make: Make, api: Api, options: Sequence[str], told_of: str
) -> None:
    selected = (*options, f"--kubernetes-api={api.url}", *SELECTED)
    agent = start_agent("profile", "--frequency=99", *selected)

    def events() -> int:
        return int(agent.call("stats")["events"])

    for uid in (TEST, SYSTEM):
        make(uid).burn("hidden")
    time.sleep(0.5)
    assert events() == 0
    make(SHOP).burn("seen")
    assert until(lambda: events() > 5)
    agent.call("off")
    taken = agent.call("flush")["events"]
    assert samples(receiver) == {told_of: taken}


def test_one_process_asks_the_api_once_for_all_its_collectors(
    launch: Any, receiver: Any, service: Any, api: Api, tmp_path: Path
) -> None:
    selected = ("--containers", f"--kubernetes-api={api.url}", *SELECTED)
    names, log = "http+flows+profile+guard", tmp_path / "agent.log"
    with tempfile.TemporaryDirectory() as sockets:
        socket = Path(sockets, "{name}")
        process, ready = launch(log, names, socket, service.path, receiver.url, *selected)
        processes.stop(process)
    assert ready["ready"], ready
    assert len([query for query, _ in api.asked if "watch" not in query]) == 1
    accepted = {accept.partition(";g=")[0] for _, accept in api.asked}
    assert accepted <= {
        "application/json;as=PartialObjectMetadataList",
        "application/json;as=PartialObjectMetadata",
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pod-selector=app in"], "'app in' is no label selector"),
        (["--namespaces=shop", "--node-name="], "without the name of their node"),
        (["--namespaces=kube-*"], "is no name of a namespace"),
    ],
)
def test_an_agent_says_what_is_no_selector(
    start_agent: Any, api: Api, options: list[str], said: str
) -> None:
    with pytest.raises(AssertionError, match=said):
        start_agent("http", f"--kubernetes-api={api.url}", "--node-name=worker", *options)


def test_an_agent_that_may_not_read_pods_says_so(start_agent: Any, api: Api) -> None:
    api.refusing = 403
    with pytest.raises(AssertionError, match=r"cannot be read from the cluster's API"):
        start_agent("http", f"--kubernetes-api={api.url}", *SELECTED)
