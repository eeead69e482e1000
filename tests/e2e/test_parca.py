"""A stack that keeps profiles, too: up says so, and an agent of a run sends its stacks there."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.collectors import resolve
from harness.linux import processes
from harness.node.agent_process import AgentProcess
from harness.node.machine import Machine
from harness.plan.trials import collector
from harness.stack import ledger, lifecycle
from harness.stack.client import ask
from harness.stack.config import Stack
from harness.stack.config.parca import Parca
from harness.stack.full import Full
from tests import running_parca
from tests.e2e import stacked
from tests.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.stack,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to make cgroups"),
]

HARNESS = [sys.executable, "-m", "harness"]
BUILD_SECONDS = 3600
BUSY = "while True: pass"


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What `up` said; the stack is up meanwhile."""
    running_parca.require()
    stacked.require(stacked.roles())
    environment = {"XDG_STATE_HOME": str(tmp_path_factory.mktemp("state"))}
    argv = [*HARNESS, "up", "--profiles", "parca", "--dashboards", "none"]
    done = processes.run(argv, check=False, env=environment, timeout=BUILD_SECONDS)
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        yield done.stdout
    finally:
        processes.run([*HARNESS, "down"], check=False, env=environment, timeout=120)


@pytest.fixture
def stack(said: str) -> Stack:
    now = ledger.state()
    assert now is not None
    return lifecycle.standing(now)


def test_profiles_are_read_back_as_each_other_signal(said: str, stack: Stack) -> None:
    for signal in ("traces", "metrics", "logs", "profiles"):
        assert f"{signal}: found in {stack.keeps[signal]} after " in said
    assert stack.url("parca") in said
    again = processes.run([*HARNESS, "status"], check=False)
    assert again.returncode == 0, again.stderr
    assert "profiles: found in parca after " in again.stdout


def test_it_is_scraped_as_each_other_component(stack: Stack) -> None:
    url = stack.url("prometheus") + "/api/v1/query"

    def scraped() -> bool:
        answer = ask(url, {"query": 'up{job="parca"} == 1'})
        return bool(answer and answer["data"]["result"])

    assert until(scraped)


def test_an_agent_of_a_run_sends_its_stacks_there(stack: Stack, tmp_path: Path) -> None:
    receiver = Full(stack, {})
    began = time.time_ns()
    with Machine(f"test-{os.getpid()}", journal=tmp_path / "journal") as machine:
        target = machine.make("workload")
        service = processes.spawn(
            ["/usr/bin/python3", "-c", BUSY], log=tmp_path / "log", cgroup=target
        )
        agent = AgentProcess(
            collector(resolve("profile:frequency=99")),
            target_cgroup=target,
            own_cgroup=machine.make("agent-profile"),
            otlp_url=receiver.url,
            folder=tmp_path,
            socket=machine.work / "profile.sock",
            service_name="busy",
            profiles_url=receiver.profiles_url,
        )
        try:
            agent.start()
            agent.await_ready()
            agent.switch(True)
            assert until(lambda: agent.stats()["events"] > 20)
            agent.flush()
            told = agent.stats()
            assert (told["waiting"], told["dropped"]) == (0, {})
            keeper = Parca(stack.url("parca"))
            assert until(lambda: keeper.samples("service.name", "busy", began))
            assert "<module>" in keeper.samples("service.name", "busy", began)
        finally:
            agent.kill()
            processes.stop(service)
