"""Which program a log record of `guard` names: the one that did it, not one before or after."""

from __future__ import annotations

import pytest

from harness.agent import policy, records
from harness.agent.policy import Rule
from harness.agent.records import Records
from harness.agent.telemetry import Log
from harness.agent.together import Together

RULES = (Rule("all", "exec", ("*",), "report"), Rule("key", "open", ("/key",), "report"))
HEAD = records._EVENT


@pytest.fixture
def made() -> Records:
    return Records(RULES, Together())


def event(kind: str, path: bytes, pid: int, program: int) -> bytes:
    number = policy.EVENTS[kind]
    rule = next(i for i, each in enumerate(RULES) if each.event == kind)
    head = HEAD.pack(1, 0, program, number, 1, rule, pid, 1, 0, 0, 0, b"name", path)
    return head + bytes(256) if kind == "exec" else head


def execute(made: Records, path: bytes, pid: int, program: int) -> None:
    made.event(event("exec", path, pid, program))


def opened(made: Records, pid: int, program: int) -> object:
    return named(made.event(event("open", b"/key", pid, program)))


def connected(made: Records, pid: int, program: int) -> object:
    peer = records._PEER.pack(pid, 443, 6, 0, bytes(16), b"name")
    return named(made.connects(peer, records._CONNECTS.pack(1, 1, 0, program, 0, 1)))


def named(log: Log) -> object:
    return log.attributes.get("process.executable.path")


def test_what_a_process_did_is_told_of_the_program_that_did_it(made: Records) -> None:
    execute(made, b"/bin/python", 7, 1001)
    execute(made, b"/bin/true", 7, 1002)
    for told in (opened, connected):
        assert told(made, 7, 1001) == "/bin/python"
        assert told(made, 7, 1002) == "/bin/true"


def test_another_process_with_its_number_is_no_program_that_is_known(made: Records) -> None:
    execute(made, b"/bin/python", 7, 1001)
    for told in (opened, connected):
        assert told(made, 7, 5000) is None
        assert told(made, 8, 1001) is None


def test_a_program_that_does_something_is_remembered_longer(
    made: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_REMEMBERED", 3)
    execute(made, b"/bin/server", 1, 1)
    for pid in range(2, 10):
        execute(made, b"/bin/true", pid, pid)
        assert connected(made, 1, 1) == "/bin/server"
    assert connected(made, 2, 2) is None
