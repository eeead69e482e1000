"""Whatever breaks in `guard` or its answerer, nobody waits to open a file; on the real kernel."""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.agent.answerer_process import AnswererProcess
from harness.agent.errors import AgentError
from harness.linux import processes
from harness.wire import control
from tests.bpf.openers import OPENERS, Watched, ended, policy, stopped
from tests.waiting import until

pytestmark = pytest.mark.bpf


@pytest.fixture
def broken(watched: Watched, launch: Any, receiver: Any) -> Iterator[Callable[..., Watched]]:
    """Start an agent into whose process this code was put first."""
    with contextlib.ExitStack() as stack:

        def start(code: str, *through: str, otlp: str = receiver.url) -> Watched:
            start = f"import sys\n{code}\nfrom harness.agent.__main__ import main\n"
            start += "sys.exit(main(sys.argv[4:]))"
            path = Path(stack.enter_context(tempfile.TemporaryDirectory()), "socket")
            process, ready = launch(
                watched.folder / "agent.log",
                "guard",
                path,
                watched.service.path,
                otlp,
                *policy(watched.folder, watched.secret),
                "--drain=0.1",
                through=(*through, sys.executable, "-c", start),
            )
            stack.callback(processes.stop, process)
            assert ready["ready"], ready
            client = control.Client(path)
            stack.callback(client.close)
            watched.agent = _Started(process, client)
            return watched

        yield start


@dataclass
class _Started:
    process: processes.Process
    client: control.Client

    def call(self, command: str) -> dict[str, Any]:
        return self.client.call(command)


# Raises in one place of the agent as soon as it is wanted: it must have started before.
FAULT = """
import os
from harness.agent import cgroup, maps, opens, otlp
def maybe(function):
    def fault(*all, **named):
        if os.path.exists({flag!r}):
            raise {error}
        return function(*all, **named)
    return fault
{place} = maybe({place})
"""


@pytest.mark.parametrize(
    "error", ["RuntimeError", "MemoryError", "UnicodeDecodeError('utf-8', b'', 0, 1, 'no text')"]
)
@pytest.mark.parametrize(
    "place",
    ["opens.Opens.collect", "maps.RingBuffer.consume", "cgroup.pids", "otlp.Exporter.send_logs"],
)
def test_an_error_in_the_agent_is_outlived(
    broken: Callable[..., Watched], tmp_path: Path, place: str, error: str
) -> None:
    flag = tmp_path / "broken"
    watched = broken(FAULT.format(flag=str(flag), error=error, place=place))
    flag.touch()
    watched.open_by_all()
    assert watched.is_enforced()
    assert until(lambda: watched.agent.call("stats")["errors"] > 0)
    watched.open_by_all()
    assert watched.agent.process.poll() is None


def test_a_full_disk_under_its_log(broken: Callable[..., Watched]) -> None:
    full = ("/bin/sh", "-c", 'exec "$@" 2>/dev/full', "sh")
    watched = broken("", *full, otlp="http://127.0.0.1:9")  # it has much to tell
    watched.open_by_all()
    with stopped(watched.answerer()):
        watched.open_by_all()
    assert watched.is_enforced()
    assert watched.agent.process.poll() is None


def test_a_receiver_that_takes_nothing(broken: Callable[..., Watched]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        watched = broken("", otlp=f"http://127.0.0.1:{silent.getsockname()[1]}")
        for _ in range(3):
            watched.open_by_all()
        assert watched.is_enforced()


# What goes wrong in the answerer at the first opener, between reading and answering.
ANSWERER_FAULTS = {
    "an exception": "def fault(*_, **__): raise RuntimeError('a bug')",
    "no memory": "def fault(*_, **__): raise MemoryError",
    "no text": "def fault(*_, **__): b'\\xff'.decode()",
    "an endless recursion": "def fault(*_, **__): fault()",
    "an endless loop": "def fault(*_, **__):\n    while True: pass",
    "a wait for ever": "def fault(*_, **__): time.sleep(3600)",
    "SIGTERM": "def fault(*_, **__): os.kill(os.getpid(), signal.SIGTERM); time.sleep(3600)",
    "SIGSTOP": "def fault(*_, **__): os.kill(os.getpid(), signal.SIGSTOP)",
    "a crash": "def fault(*_, **__): ctypes.string_at(0)",
    "a full pipe for its words": "def fault(*_, **__):\n"
    "    end = os.pipe()[1]\n    os.dup2(end, 2)\n    os.write(2, bytes(1 << 20))",
}
PLACES = {
    "who is of the cgroup": "answerer.cgroup.pids",
    "the answer": "answerer.Group.answer",
    "what the kernel says": "answerer.Group.read",
}
BROKEN_ANSWERER = """
import ctypes, os, signal, sys, time
from harness.agent import answerer
{fault}
{place} = fault
answerer.main(sys.argv[1:])
"""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", ANSWERER_FAULTS)
def test_a_fault_in_the_answerer_lets_everybody_go(
    watched: Watched, fault: str, place: str
) -> None:
    code = BROKEN_ANSWERER.format(fault=ANSWERER_FAULTS[fault], place=PLACES[place])
    _all_pass(watched, code)


def test_an_answer_that_is_forgotten(watched: Watched) -> None:
    fault = "def fault(*_, **__): return None"
    _all_pass(watched, BROKEN_ANSWERER.format(fault=fault, place=PLACES["the answer"]))


def _all_pass(watched: Watched, code: str) -> None:
    answerer = AnswererProcess(watched.service.path, [sys.executable, "-S", "-c", code])
    try:
        assert all(answerer.mark([str(watched.secret)]))
        watched.open_by_all()
        assert until(lambda: not answerer.alive)
        with pytest.raises(AgentError, match="Nobody is there to deny"):
            answerer.mark([str(watched.secret)])
    finally:
        answerer.close()


# What goes wrong when somebody of the cgroup is denied: the answer stands, then it ends.
@pytest.mark.parametrize("place", ["opener.described", "cgroup.kill"])
def test_an_error_while_denying_denies(watched: Watched, place: str) -> None:
    fault = "def fault(*_, **__): raise RuntimeError('a bug')"
    code = BROKEN_ANSWERER.format(fault=fault, place=f"answerer.{place}")
    answerer = AnswererProcess(watched.service.path, [sys.executable, "-S", "-c", code])
    try:
        answerer.mark([str(watched.secret)])
        assert ended(watched.thief()) == 1  # cat says that it is not permitted
        assert until(lambda: not answerer.alive)
        assert [ended(each) for each in watched.strangers()] == [0] * OPENERS
    finally:
        answerer.close()
