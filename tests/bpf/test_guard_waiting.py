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
from pathlib import Path
from typing import Any

import pytest

from harness.agent.answerer_process import AnswererProcess
from tests.bpf.openers import FOREVER_SECONDS, OPENERS, Watched, children, ended, policy, stopped
from tests.waiting import until

pytestmark = pytest.mark.bpf


@pytest.fixture
def guarded(watched: Watched, start_agent: Any) -> Watched:
    watched.agent = start_agent("guard", *policy(watched.folder, watched.secret))
    assert "fanotify/open_perm" in watched.agent.ready["hooks"]
    return watched


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
    assert guarded.is_enforced()  # once the files are marked, too


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
            with contextlib.suppress(ProcessLookupError):  # the answerer, which ends now
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
    assert guarded.agent.process.wait(60) in (0, -signal.SIGKILL)
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


def test_many_wait_at_once(guarded: Watched) -> None:
    """More than are answered in a round."""
    many = [each for _ in range(20) for each in guarded.strangers()]
    thieves = [guarded.thief() for _ in range(20)]
    assert {ended(each) for each in many} == {0}
    assert {ended(each) for each in thieves} == {-signal.SIGKILL}

    def told() -> int:
        stats = guarded.agent.call("flush")
        return int(stats["events"] + stats["lost"])

    assert until(lambda: told() >= len(thieves))  # a thief is killed first, and told then
    assert told() == len(thieves)


def test_what_was_denied_is_told_once(watched: Watched) -> None:
    answerer = AnswererProcess(watched.service.path)
    try:
        answerer.mark([str(watched.secret)])
        thieves = [watched.thief() for _ in range(OPENERS)]
        assert [ended(each) for each in thieves] == [-signal.SIGKILL] * OPENERS
        told: list[dict[str, Any]] = []
        # a thief is killed first, and told then
        assert until(lambda: told.extend(answerer.denials()) or len(told) >= len(thieves))
        assert {each["process"]["process.pid"] for each in told} == {t.pid for t in thieves}
        assert len(told) == len(thieves)  # who was started first need not come first
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
