"""What a collector loses while its receiver is sick, and that it says so: `http` and the sink."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.agent.outbox import WAITING
from harness.linux import processes
from harness.meters.coverage import count, data_latency
from harness.model import Part
from harness.wire.control import ControlError
from tests.waiting import until

pytestmark = pytest.mark.bpf

SERVER = Path(__file__).with_name("http_server.py")
PART = Part("harness.http")
HTTP = ("http", "--sample", "1", "--drain", "0.2", "--interval", "0.5")


class Sick:
    """A sink that is told to refuse, ended, and started again at the same port."""

    def __init__(self, folder: Path) -> None:
        self.spool, self._log, self.port = folder / "spool", folder / "sink.log", 0
        self.start()

    def start(self) -> None:
        argv = [sys.executable, "-m", "harness.stack.sink", "--spool", str(self.spool)]
        self._process = processes.spawn([*argv, "--port", str(self.port)], log=self._log)
        ready = processes.announced(self._process, 60)
        assert ready is not None, self._log.read_text()
        self.port = ready["port"]

    def end(self) -> None:
        processes.stop(self._process, grace_seconds=0)

    def ask(self, method: str, path: str, **body: Any) -> Any:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as client:
            client.request(method, path, json.dumps(body))
            response = client.getresponse()
            assert response.status == 200
            return json.loads(response.read() or b"null")

    def refused(self) -> int:
        return int(self.ask("GET", "/stats")["refused"])

    def spans(self) -> int:
        return len(data_latency(self.spool, PART, "spans"))


@pytest.fixture
def sick(tmp_path: Path) -> Iterator[Sick]:
    sink = Sick(tmp_path)
    yield sink
    sink.end()


@pytest.fixture
def ask(service: Any) -> Callable[[int], None]:
    """Make so many requests of the service."""
    port = service.serve(sys.executable, str(SERVER), "127.0.0.1")

    def requests(times: int) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            for _ in range(times):
                connection.request("GET", "/status/204")
                connection.getresponse().read()

    return requests


def whole(sick: Sick, agent: Any, times: int) -> None:
    """All spans are there once, all requests are counted, and nothing is called lost."""
    told = agent.call("flush")
    assert (told["lost"], told["waiting"], told["spans"]) == (0, 0, times)
    assert sick.spans() == times
    assert count(sick.spool, PART, "requests") == times


@pytest.mark.parametrize("how", ["503", "429", "reset"])
def test_a_receiver_that_refuses_for_a_while_costs_nothing_that_was_seen(
    start_agent: Any, sick: Sick, ask: Any, how: str
) -> None:
    agent = start_agent(*HTTP, otlp=f"http://127.0.0.1:{sick.port}")
    sick.ask("PUT", "/refusal", how=how)
    ask(23)
    assert until(lambda: agent.call("stats")["waiting"] == 23 and sick.refused() > 0)
    assert sick.spans() == 0
    sick.ask("DELETE", "/refusal")
    ask(7)
    whole(sick, agent, 30)


def test_a_receiver_that_is_killed_and_started_again_gets_all(
    start_agent: Any, sick: Sick, ask: Any
) -> None:
    agent = start_agent(*HTTP, otlp=f"http://127.0.0.1:{sick.port}")
    ask(5)
    agent.call("flush")
    sick.end()
    ask(23)
    assert until(lambda: agent.call("stats")["waiting"] == 23)
    sick.start()
    whole(sick, agent, 28)


def test_a_receiver_that_never_answers_is_waited_for_and_the_rest_is_kept(
    start_agent: Any, sick: Sick, ask: Any
) -> None:
    agent = start_agent(*HTTP, otlp=f"http://127.0.0.1:{sick.port}")
    sick.ask("PUT", "/refusal", how="silence")
    ask(23)
    assert until(lambda: agent.call("stats")["waiting"] == 23)
    with pytest.raises(ControlError, match="did not reach"):
        agent.call("flush")
    sick.ask("DELETE", "/refusal")
    whole(sick, agent, 23)


def test_what_a_receiver_refuses_for_good_is_counted_as_lost(
    start_agent: Any, sick: Sick, ask: Any
) -> None:
    agent = start_agent(*HTTP, otlp=f"http://127.0.0.1:{sick.port}/elsewhere")  # 404
    ask(23)
    assert until(lambda: agent.call("stats")["lost"] == 23)
    assert agent.call("stats")["dropped"]["spans"] == {"refused": 23}
    assert agent.call("stats")["waiting"] == 0


def test_what_a_sick_receiver_never_took_is_said_at_the_end(
    start_agent: Any, sick: Sick, ask: Any
) -> None:
    agent = start_agent(*HTTP, otlp=f"http://127.0.0.1:{sick.port}")
    sick.ask("PUT", "/refusal", how="503")
    ask(23)
    assert until(lambda: agent.call("stats")["waiting"] == 23)
    said = agent.stop()
    assert (said["unsent"], said["dropped"]["spans"]) == (23, {"unsent": 23})
    assert sick.spans() == 0


def test_more_than_can_wait_is_lost_and_every_request_is_still_counted(
    start_agent: Any, sick: Sick, ask: Any
) -> None:
    agent = start_agent(*HTTP, otlp=f"http://127.0.0.1:{sick.port}")
    sick.ask("PUT", "/refusal", how="503")
    over = 500
    for _ in range(10):  # with pauses, so that the kernel's buffer never holds much
        ask((WAITING + over) // 10)
        assert until(partial(_kept_all, agent))
    asked = (WAITING + over) // 10 * 10
    assert agent.call("stats")["events"] == asked
    assert until(
        lambda: agent.call("stats")["lost"] == asked - WAITING
    )  # which is said after each try
    sick.ask("DELETE", "/refusal")
    told = agent.call("flush")
    assert told["lost"] == asked - WAITING
    assert told["dropped"]["spans"] == {"queue_full": asked - WAITING}
    assert told["spans"] == sick.spans() == WAITING
    assert count(sick.spool, PART, "requests") == asked  # metrics catch up


def _kept_all(agent: Any) -> bool:
    """Whether all that was seen was taken out of the kernel, though no receiver took it."""
    told = agent.call("stats")
    return bool(told["waiting"] + told["lost"] == told["events"])
