"""Whatever happens to `guard`, nobody waits for it to open a file; on the real kernel.

Openers of a file with a `kill` rule wait for an answer where BPF cannot hook opens, so that branch
is forced. Each test breaks something and opens the file while it is broken.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.agent.answerer_process import AnswererProcess
from harness.agent.errors import AgentError
from harness.linux import processes
from harness.wire import control

pytestmark = pytest.mark.bpf

FOREVER_SECONDS = 10  # nobody waits for a whole second; a test says so when it is sure
OPENERS = 5


@dataclass
class Watched:
    """A file, those who open it, and an agent that kills for it."""

    secret: Path
    service: Any
    folder: Path
    agent: Any = None

    def answerer(self) -> int:
        """The process that answers, a child of the agent."""
        return next(iter(children(self.agent.process.pid)))

    def strangers(self) -> list[processes.Process]:
        return [
            processes.spawn(["/bin/cat", str(self.secret)], log=self.folder / "strangers.log")
            for _ in range(OPENERS)
        ]

    def thief(self) -> processes.Process:
        return self.service.start("/bin/cat", str(self.secret))

    def open_by_all(self) -> None:
        """Strangers read it, and a process of the cgroup is let go or killed; nobody waits."""
        thief = self.thief()
        assert [ended(each) for each in self.strangers()] == [0] * OPENERS
        assert ended(thief) in (0, -signal.SIGKILL)

    def is_enforced(self) -> bool:
        """Whether a thief is killed, within some seconds."""
        return until(lambda: ended(self.thief()) == -signal.SIGKILL)


def ended(process: processes.Process) -> int:
    """Its exit code; TimeoutExpired fails the test if it waits for ever."""
    try:
        return process.wait(FOREVER_SECONDS)
    finally:
        processes.stop(process)


def until(condition: Callable[[], bool]) -> bool:
    for _ in range(100):
        if condition():
            return True
        time.sleep(0.1)
    return False


def children(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in lists for child in each.read_text().split()]


def policy(folder: Path, secret: Path, action: str = "kill") -> tuple[str, ...]:
    file = folder / "policy.toml"
    file.write_text(f'[[rules]]\nevent = "open"\nmatch = "{secret}"\naction = "{action}"\n')
    return "--policy", str(file), "--open-hook", "fanotify"


@pytest.fixture
def watched(service: Any, tmp_path: Path) -> Watched:
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    return Watched(secret, service, tmp_path)


@pytest.fixture
def guarded(watched: Watched, start_agent: Any) -> Watched:
    watched.agent = start_agent("guard", *policy(watched.folder, watched.secret))
    assert "fanotify/open_perm" in watched.agent.ready["hooks"]
    return watched


@contextlib.contextmanager
def stopped(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def test_a_stopped_agent_keeps_nobody_and_the_policy_holds(guarded: Watched) -> None:
    with stopped(guarded.agent.process.pid):
        guarded.open_by_all()
        assert ended(guarded.thief()) == -signal.SIGKILL
    assert until(lambda: guarded.agent.call("flush")["events"] == 2)


def test_a_stopped_process_group_keeps_nobody(guarded: Watched) -> None:
    group = guarded.agent.process.pid
    assert os.getpgid(group) == group
    os.killpg(group, signal.SIGSTOP)
    guarded.open_by_all()
    assert ended(guarded.thief()) == -signal.SIGKILL  # it is not in the group
    os.killpg(group, signal.SIGCONT)
    assert until(lambda: guarded.agent.call("flush")["events"] == 2)


def test_a_stopped_answerer_is_replaced(guarded: Watched) -> None:
    with stopped(first := guarded.answerer()):
        guarded.open_by_all()
    assert guarded.is_enforced()
    assert guarded.answerer() != first
    assert guarded.agent.call("stats")["answerer_restarts"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_answerer_that_was_ended_is_replaced(guarded: Watched, number: int) -> None:
    os.kill(guarded.answerer(), number)
    guarded.open_by_all()
    assert until(lambda: guarded.agent.call("stats")["answerer_restarts"] == 1)
    assert ended(guarded.thief()) == -signal.SIGKILL


def test_both_stopped_keep_nobody(guarded: Watched) -> None:
    with stopped(guarded.agent.process.pid, guarded.answerer()):
        guarded.open_by_all()
    assert guarded.is_enforced()


def test_a_frozen_cgroup_keeps_nobody(guarded: Watched, make_service: Any) -> None:
    """As `docker pause` does it to the agent's container where cgroups are v2."""
    frozen = make_service("agents").path
    agent, answerer = guarded.agent.process.pid, guarded.answerer()
    home = next(
        line[3:]
        for line in Path(f"/proc/{agent}/cgroup").read_text().splitlines()
        if line.startswith("0::")
    )
    for pid in (agent, answerer):
        (frozen / "cgroup.procs").write_text(str(pid))
    (frozen / "cgroup.freeze").write_text("1")
    try:
        guarded.open_by_all()
    finally:
        (frozen / "cgroup.freeze").write_text("0")
        mount = next(each for each in frozen.parents if not (each / "cgroup.type").exists())
        procs = mount / home.lstrip("/") / "cgroup.procs"
        for pid in (agent, *children(agent)):
            procs.write_text(str(pid))
    assert guarded.is_enforced()


def test_a_debugger_keeps_nobody(guarded: Watched) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    attach = 16  # PTRACE_ATTACH
    answerer = guarded.answerer()
    assert library.ptrace(attach, answerer, None, None) == 0
    guarded.open_by_all()
    os.waitpid(answerer, 0)  # a tracer is told, too
    assert guarded.is_enforced()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_agent_that_ends_while_somebody_waits(guarded: Watched, number: int) -> None:
    with stopped(guarded.answerer()):
        strangers, thief = guarded.strangers(), guarded.thief()
        guarded.agent.process.send_signal(number)
        assert [ended(each) for each in strangers] == [0] * OPENERS
        assert ended(thief) in (0, -signal.SIGKILL)
    assert guarded.agent.process.wait(20) in (0, -signal.SIGKILL)
    assert ended(guarded.thief()) == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_an_answerer_that_ends_while_somebody_waits(guarded: Watched, number: int) -> None:
    with stopped(answerer := guarded.answerer()):
        strangers = guarded.strangers()
        os.kill(answerer, number)  # of these, only SIGKILL is taken at once by who is stopped
        assert [ended(each) for each in strangers] == [0] * OPENERS
    assert guarded.is_enforced()


def test_an_agent_that_ends_takes_the_answerer_with_it(guarded: Watched) -> None:
    handle = os.pidfd_open(guarded.answerer())
    guarded.agent.process.kill()
    try:
        assert select.select([handle], [], [], FOREVER_SECONDS)[0]
    finally:
        os.close(handle)


@pytest.mark.parametrize("whose", ["the agent's", "the answerer's"])
def test_no_memory(guarded: Watched, whose: str) -> None:
    agent = guarded.agent.process.pid
    pid = agent if whose == "the agent's" else guarded.answerer()
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (1 << 20, before[1]))
    for _ in range(3):
        guarded.open_by_all()
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_AS, before)
    if guarded.agent.process.poll() is None:  # it may have been ended by that
        assert guarded.is_enforced()


def test_no_descriptors(guarded: Watched) -> None:
    """The kernel refuses then the opener whose file it cannot open for the answerer, at once."""
    limits = (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.prlimit(guarded.answerer(), resource.RLIMIT_NOFILE, limits)
    assert {ended(each) for each in guarded.strangers()} <= {0, 1}
    guarded.open_by_all()
    assert guarded.is_enforced()


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


def test_many_wait_at_once(guarded: Watched) -> None:
    """More than are answered in a round."""
    many = [each for _ in range(20) for each in guarded.strangers()]
    thieves = [guarded.thief() for _ in range(20)]
    assert {ended(each) for each in many} == {0}
    assert {ended(each) for each in thieves} == {-signal.SIGKILL}
    told = guarded.agent.call("flush")
    assert told["events"] + told["lost"] == len(thieves)


def test_what_was_denied_is_told_once(watched: Watched) -> None:
    answerer = AnswererProcess(watched.service.path)
    try:
        answerer.mark([str(watched.secret)])
        thieves = [watched.thief() for _ in range(OPENERS)]
        assert [ended(each) for each in thieves] == [-signal.SIGKILL] * OPENERS
        told = answerer.denials()
        assert [each["process"]["process.pid"] for each in told] == [t.pid for t in thieves]
        assert {each["path"] for each in told} == {str(watched.secret)}
        assert answerer.denials() == []
        assert answerer.lost == 0
        answerer.unmark()
        assert ended(watched.thief()) == 0
    finally:
        answerer.close()


def test_switching_off_is_certain_though_the_answerer_is_stopped(guarded: Watched) -> None:
    with stopped(guarded.answerer()):
        assert guarded.agent.call("off")["seconds"] > 0
        assert ended(guarded.thief()) == 0
    guarded.agent.call("on")
    assert ended(guarded.thief()) == -signal.SIGKILL
