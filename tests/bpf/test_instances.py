"""Collectors as an evaluation starts them: two instances of one agent, and an external one."""

from __future__ import annotations

import http.client
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from harness.collectors import resolve
from harness.linux import processes
from harness.meters.coverage import count
from harness.model import Part
from harness.node.agent_process import AgentProcess, switch_all
from harness.plan import trials
from tests.waiting import until

pytestmark = pytest.mark.bpf

SERVER = Path(__file__).with_name("http_server.py")
EXTERNAL = """
name = "mine"
purpose = "The same requests, counted by a collector that this program does not know"
signal = "requests"
telemetry = "spans"
scope = "harness.http"
command = [
  "{python}", "-m", "harness.agent", "http", "--off", "--sample", "1", "--cgroup", "{cgroup}",
  "--otlp", "{otlp}", "--control", "{control}", "--service-name", "{service}",
  "--interval", "{interval}", "--instance-id", "{instance}",
]
"""


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "telemetry.spool"


@pytest.fixture
def sink(tmp_path: Path, spool: Path) -> Iterator[str]:
    argv = [sys.executable, "-m", "harness.stack.sink", "--spool", str(spool)]
    process = processes.spawn(argv, log=tmp_path / "sink.log")
    ready = processes.announced(process, 60)
    assert ready is not None
    yield f"http://127.0.0.1:{ready['port']}"
    processes.stop(process)


@pytest.fixture
def start(
    service: Any, make_service: Callable[[str], Any], sink: str, tmp_path: Path
) -> Iterator[Callable[..., list[AgentProcess]]]:
    with ExitStack() as stack:
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def start(*specs: str) -> list[AgentProcess]:
            agents = []
            for collector in map(trials.collector, map(resolve, specs)):
                agent = AgentProcess(
                    collector,
                    target_cgroup=service.path,
                    own_cgroup=make_service(f"agent-{collector.name}").path,
                    otlp_url=sink,
                    folder=tmp_path,
                    socket=sockets / f"{collector.name}.sock",
                )
                agent.start()
                stack.callback(agent.kill)
                agents.append(agent)
            for agent in agents:
                agent.await_ready()
            return agents

        yield start


def ask(service: Any, times: int) -> None:
    port = service.serve(sys.executable, str(SERVER), "127.0.0.1")
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for _ in range(times):
            connection.request("GET", "/status/204")
            connection.getresponse().read()


def test_two_instances_and_an_external_one_are_told_apart(
    start: Callable[..., list[AgentProcess]], service: Any, spool: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text(EXTERNAL)
    agents = start("http", "http:sample=1,drain=0.2", str(tmp_path / "mine.toml"))
    names = ["http", "http-sample-1-drain-0.2", "mine"]
    assert [agent.name for agent in agents] == names
    hooks = {hook for agent in agents for hook in agent.hooks.values()}
    assert hooks == {"cgroup_skb", "cgroup_sock", "tp_btf"}
    assert len({number for agent in agents for number in agent.program_ids}) == 12
    switch_all(agents[:2], True)
    ask(service, 23)
    switch_all(agents[1:], True)  # one is on already, and stays so
    agents[0].switch(False)
    ask(service, 7)
    spans = {agent.name: agent.flush()["spans"] for agent in agents}
    seen = {
        agent.name: count(
            spool,
            Part(agent.spec.scope, instance=agent.name),
            agent.spec.signal or "",
        )
        for agent in agents
    }
    assert seen == dict(zip(names, (23, 30, 7), strict=True))
    assert (spans[names[1]], spans["mine"]) == (30, 7)
    together = Part("harness.http")
    assert count(spool, together, "requests") == 60
    assert count(spool, Part("harness.http", instance="nobody"), "requests") == 0


def test_inject_is_started_as_asked(start: Callable[..., list[AgentProcess]], service: Any) -> None:
    burning, counting = start("inject:ns=20000", "inject:ns=0,agent_percent=10")
    switch_all([burning, counting], True)
    ask(service, 23)
    assert until(lambda: counting.stats()["agent_burnt_seconds"] > 0)
    switch_all([burning, counting], False)
    told, none = burning.stats(), counting.stats()
    assert 23 <= told["injected_events"] == none["injected_events"] <= 1.2 * 23
    assert told["injected_ns"] >= 20_000 * told["injected_events"]
    assert none["injected_ns"] < 10_000 * none["injected_events"]  # two readings of the clock
    assert told["agent_burnt_seconds"] == 0
    assert none["agent_burnt_seconds"] > 0
