"""A unit restarts: its cgroup is removed and made again under the same path; agents go on there."""

from __future__ import annotations

import http.client
import os
import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.wire import control
from tests.waiting import until

pytestmark = pytest.mark.bpf

SERVER = Path(__file__).with_name("http_server.py")
BUSY = "n = 10_000_000\nwhile n:\n    n -= 1"


def ask(service: Any, times: int) -> None:
    port = service.serve(sys.executable, str(SERVER), "127.0.0.1")
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for _ in range(times):
            connection.request("GET", "/")
            connection.getresponse().read()


def stop(service: Any) -> None:
    service.remove()
    service.started.clear()


def restart(service: Any) -> None:
    before = service.path.stat().st_ino
    stop(service)
    service.path.mkdir()
    assert service.path.stat().st_ino != before


def noticed(agent: Any, times: int = 1) -> bool:
    return until(lambda: agent.call("stats")["reattached"] == times)


def test_http_sees_the_requests_of_the_new_one(service: Any, start_agent: Any) -> None:
    agent = start_agent("http", "--drain=100")  # it notices, however seldom it drains
    ask(service, 23)
    for times in (1, 2):
        restart(service)
        assert noticed(agent, times)
        ask(service, 23)
        assert agent.call("flush")["events"] == 23 * (times + 1)


def test_flows_sees_the_connections_of_the_new_one(
    service: Any, start_agent: Any, receiver: Any
) -> None:
    agent = start_agent("flows")
    ask(service, 1)
    restart(service)
    assert noticed(agent)
    port = service.serve(sys.executable, str(SERVER), "127.0.0.1")
    for _ in range(3):
        socket.create_connection(("127.0.0.1", port)).close()

    def opened() -> int:
        agent.call("flush")
        points = receiver.points("tcp.connections.opened")
        roles = {receiver.attributes(each)["tcp.role"] for each in points}
        assert roles == {"server"}
        return sum(each.as_int for each in points)

    assert until(lambda: opened() == 4)


def test_profile_samples_the_new_one(service: Any, start_agent: Any, receiver: Any) -> None:
    agent = start_agent("profile", "--frequency=199")
    restart(service)
    assert noticed(agent)
    process = service.start(sys.executable, "-c", BUSY)
    assert process.wait(60) == 0
    agent.call("flush")
    points = receiver.points("profile.samples")
    names = {receiver.attributes(each)["process.executable.name"] for each in points}
    assert names == {os.path.basename(os.path.realpath(sys.executable))}


def test_guard_watches_the_new_one(
    service: Any, start_agent: Any, receiver: Any, tmp_path: Path
) -> None:
    (tmp_path / "secret").touch()
    rules = {"exec": "/bin/cat", "open": f"{tmp_path}/secret", "connect": "127.0.0.0/8"}
    rule = '[[rules]]\nevent = "{}"\nmatch = "{}"\naction = "report"\n'
    (tmp_path / "policy.toml").write_text("".join(rule.format(*each) for each in rules.items()))
    agent = start_agent("guard", "--policy", str(tmp_path / "policy.toml"))
    restart(service)
    assert noticed(agent)
    assert service.start("/bin/cat", f"{tmp_path}/secret").wait(60) == 0
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        code = f"import socket; socket.create_connection({address!r}).close()"
        assert service.start(sys.executable, "-c", code).wait(60) == 0
    agent.call("flush")
    seen = {log.event_name for log in receiver.logs}
    assert seen == {"process.exec", "file.open", "network.connect"}


def test_inject_burns_in_the_new_one(service: Any, start_agent: Any) -> None:
    agent = start_agent("inject", "--ns=1000")
    restart(service)
    assert noticed(agent)
    ask(service, 23)
    assert agent.call("stats")["injected_events"] >= 23


def test_one_that_was_made_anew_while_off_is_taken_when_switched_on(
    service: Any, start_agent: Any
) -> None:
    agent = start_agent("http", "--off")
    restart(service)
    agent.call("on")
    ask(service, 23)
    assert agent.call("flush")["events"] == 23
    assert agent.call("stats")["reattached"] == 1
    agent.call("off")
    restart(service)
    assert noticed(agent, 2)
    ask(service, 23)
    assert agent.call("flush")["events"] == 23


def test_one_that_is_gone_is_said_and_waited_for(service: Any, start_agent: Any) -> None:
    agent = start_agent("http", "--off")
    stop(service)
    with pytest.raises(control.ControlError, match=r"The cgroup .* is gone\. .* Start the service"):
        agent.call("on")
    assert agent.call("stats")["events"] == 0
    service.path.mkdir()
    agent.call("on")
    ask(service, 23)
    assert agent.call("flush")["events"] == 23


def test_one_that_stays_is_left_alone(service: Any, start_agent: Any) -> None:
    agent = start_agent("http")
    (service.path / "below").mkdir()
    (service.path / "below").rmdir()
    ask(service, 23)
    agent.call("off")
    agent.call("on")
    ask(service, 23)
    told = agent.call("flush")
    assert (told["events"], told["reattached"], told["errors"]) == (46, 0, 0)
