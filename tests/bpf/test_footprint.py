"""What an agent says of itself while 23 requests are served: CPU, memory, events, programs."""

from __future__ import annotations

import http.client
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.meters import memory
from harness.meters.bpfstats import StatsEnabled

pytestmark = pytest.mark.bpf

SERVER = Path(__file__).with_name("http_server.py")
OWN = {"harness.collector": "http", "harness.service": "shop"}


def serve(service: Any, requests: int) -> None:
    port = service.serve(sys.executable, str(SERVER), "127.0.0.1")
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for _ in range(requests):
            connection.request("GET", "/")
            connection.getresponse().read()


def told(receiver: Any, name: str, by: str = "") -> dict[str, float]:
    """The values of a metric as they arrived last, by an attribute."""
    found = {}
    for point in receiver.points(name):
        attributes = receiver.attributes(point)
        assert OWN.items() <= attributes.items()
        found[attributes.get(by, "")] = getattr(point, point.WhichOneof("value"))
    return found


def test_cpu_memory_events_and_runs(start_agent: Any, receiver: Any, service: Any) -> None:
    agent = start_agent("http", "--service-name", "shop", "--instance-id", "http-1")
    with StatsEnabled():
        serve(service, 23)
        agent.call("flush")
    own = next(each for each in receiver.resources if each["service.name"] == "harness-agent")
    assert (own["process.pid"], own["service.instance.id"]) == (agent.process.pid, "http-1")
    seconds = told(receiver, "process.cpu.time", "cpu.mode")
    assert set(seconds) == {"user", "system"}
    assert 0 < sum(seconds.values()) < 60
    resident = told(receiver, "process.memory.usage")[""]
    pid = agent.process.pid  # the kernel counts pages of threads in batches
    assert 0.9 * memory.pss_bytes([pid]) < resident < 1.1 * memory.peak_rss_bytes(pid)
    assert told(receiver, "harness.agent.events") == {"": 23}
    assert told(receiver, "harness.agent.events.lost") == {"": 0}
    runs = told(receiver, "bpf.program.run.count", "bpf.program.name")
    of_ends = {"http_release", "http_state"}
    assert {*runs, *of_ends} == {program["name"] for program in agent.ready["programs"]}
    for name in of_ends:  # which run when the server has noticed that the client left
        runs.pop(name, None)
    assert min(runs.values()) >= 23  # a segment at least for each request and each response
    times = told(receiver, "bpf.program.run.time", "bpf.program.name")
    # of some microseconds; who has the CPU may lose it to others for much longer
    assert all(0 < times[name] / runs[name] < 0.05 for name in runs)


def test_it_is_told_before_anything_was_seen(start_agent: Any, receiver: Any) -> None:
    agent = start_agent("http", "--service-name", "shop")
    agent.call("flush")
    assert told(receiver, "harness.agent.events") == {"": 0}
    own = next(each for each in receiver.resources if each["service.name"] == "harness-agent")
    assert own["service.instance.id"] == str(agent.process.pid)
