"""A collector's processes: whatever they are, they end with it and may say what they like."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import ComponentError
from harness.linux import cgroup, processes
from harness.node import agent_process
from harness.node.agent_process import AgentProcess
from harness.node.machine import Machine
from harness.wire.spec import CollectorSpec

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to make cgroups"),
]

COLLECTOR = """
import os, signal, sys
from pathlib import Path
from harness.wire.control import Server

signal.signal(signal.SIGTERM, signal.{handler})
print("loading", "x" * 99_999)
def stats(request):
    print("y" * 999_999, flush=True)  # far more than a pipe holds
    return {{"pid": os.getpid(), "events": 0, "lost": 0, "map_bytes": 0}}
server = Server(Path(sys.argv[1]), {{"stats": stats}})
print('{{"ready": true, "programs": []}}', flush=True)
server.serve()
"""
# leaves the session of the wrapper, so that no signal to that reaches it
WRAPPER = '#!/bin/sh\nsetsid "$@" &\nwait\n'


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], AgentProcess]]:
    """Starts a collector by a wrapper script, with this handler of SIGTERM."""
    with Machine(f"test-{os.getpid()}", journal=tmp_path / "journal") as machine:

        def make(handler: str) -> AgentProcess:
            (tmp_path / "collector.py").write_text(COLLECTOR.format(handler=handler))
            (tmp_path / "wrapper").write_text(WRAPPER)
            (tmp_path / "wrapper").chmod(0o755)
            collector = AgentProcess(
                _spec(str(tmp_path / "wrapper"), "{python}", f"{tmp_path}/collector.py"),
                target_cgroup=machine.make("workload"),
                own_cgroup=machine.make("agent-wrapped"),
                otlp_url="http://127.0.0.1:4318",
                folder=tmp_path,
                socket=machine.work / "wrapped.sock",
            )
            collector.start()
            collector.await_ready()
            return collector

        yield make


def _spec(*command: str) -> CollectorSpec:
    """Of a collector of somebody's own, which is told where its socket is."""
    return CollectorSpec(
        name="wrapped", agent="", options={}, command=(*command, "{control}"), signal=None,
        telemetry=None, scope="", export_seconds=1.0, tells_instance=False,
    )  # fmt: skip


def _group(collector: AgentProcess) -> Path:
    assert collector._own_cgroup is not None
    return collector._own_cgroup


@pytest.mark.parametrize("handler", ["SIG_DFL", "SIG_IGN"])
def test_what_a_wrapper_started_ends_with_the_collector(
    start: Callable[[str], AgentProcess], handler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_process, "GRACE_SECONDS", 0.5)
    collector = start(handler)
    pid = collector.stats()["pid"]
    assert pid != collector.pid
    assert sorted(collector.pids()) == sorted([collector.pid, pid])
    collector.kill()
    assert not cgroup.populated(_group(collector))
    assert not Path(f"/proc/{pid}/exe").exists()
    collector.kill()


def test_what_outlived_its_wrapper_ends_too_though_that_was_noticed(
    start: Callable[[str], AgentProcess],
) -> None:
    collector = start("SIG_DFL")
    pid = collector.stats()["pid"]
    os.kill(collector.pid, 9)
    assert collector._process.wait() == -9
    assert collector.pids() == [pid]
    collector.kill()
    assert not cgroup.populated(_group(collector))


def test_what_cannot_be_ended_is_no_silence(
    start: Callable[[str], AgentProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = start("SIG_DFL")

    def fail(path: Path, grace_seconds: float) -> int:
        raise ComponentError(f"{path} {grace_seconds}")

    with monkeypatch.context() as patch:
        patch.setattr(cgroup, "terminate", fail)
        with pytest.raises(ComponentError, match="agent-wrapped 5"):
            collector.kill()
    collector.kill()


def test_a_collector_may_log_to_stdout_as_much_as_it_likes(
    start: Callable[[str], AgentProcess], tmp_path: Path
) -> None:
    collector = start("SIG_DFL")
    for _ in range(3):
        assert collector.stats()["events"] == 0
    collector.kill()
    text = (tmp_path / "agent-wrapped.log").read_text()
    assert text.startswith("loading x")
    assert text.count("y" * 999_999) == 3
    assert processes.last_words(tmp_path / "agent-wrapped.log", 1) == ["y" * 999_999]
