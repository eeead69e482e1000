"""An answerer that starts slowly is waited for, one that hangs is not."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import pytest

from harness.agent import answerer_process
from harness.agent.answerer_process import AnswererProcess
from harness.agent.errors import AgentError
from tests.waiting import PATIENCE_SECONDS, until

SERVES = """
import socket, sys, time
control = socket.socket(fileno=int(sys.argv[2]))
def serve():
    while control.recv(100):
        control.send(b'{"lost": 0}')
"""
SLOW = SERVES + "time.sleep(2.5); serve()"
HANGS = SERVES + "time.sleep(600)"
LOOPS = SERVES + "while True: pass"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answerer_process, "_STILL_SECONDS", 1.0)


def started(code: str) -> AnswererProcess:
    return AnswererProcess(Path("/"), [sys.executable, "-S", "-c", code])


@pytest.mark.usefixtures("short")
def test_one_that_gets_on_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = itertools.count()
    monkeypatch.setattr(answerer_process, "_did", lambda pid: [b"%d" % next(steps)])
    answerer = started(SLOW)
    try:
        assert answerer.alive
    finally:
        answerer.close()


def test_who_is_at_work_gets_on() -> None:
    before = answerer_process._did(os.getpid())
    assert before
    assert until(lambda: answerer_process._did(os.getpid()) != before)


@pytest.mark.usefixtures("short")
def test_one_that_hangs_is_given_up() -> None:
    with pytest.raises(AgentError, match="does not answer"):
        started(HANGS)


@pytest.mark.usefixtures("short")
def test_one_that_gets_on_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answerer_process, "_START_SECONDS", 1.0)
    with pytest.raises(AgentError, match="does not answer"):
        started(LOOPS)


def test_one_that_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answerer_process, "_END_SECONDS", PATIENCE_SECONDS)
    with pytest.raises(AgentError, match="ended with exit code 3"):
        started("raise SystemExit(3)")
