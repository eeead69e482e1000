"""What fails and is tried again is told and counted; it ends nothing."""

from __future__ import annotations

import errno
import logging
import os

import pytest

from harness.agent.attempts import Attempts
from harness.agent.errors import AgentError


def failing(error: Exception) -> None:
    raise error


def test_a_full_disk_is_counted_by_its_name_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    attempts = Attempts()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with caplog.at_level(logging.WARNING):
        assert not attempts(lambda: failing(full))
        assert not attempts(lambda: failing(full))
        assert not attempts(lambda: failing(ValueError("x")))
    assert attempts.failures == {"ENOSPC": 2, "ValueError": 1}
    assert len(caplog.records) == 2


def test_what_is_foreseen_is_told_each_time_and_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempts = Attempts()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert not attempts(lambda: failing(AgentError("The receiver is away.")))
    assert not attempts.failures
    assert [each.message for each in caplog.records] == ["The receiver is away."] * 2


def test_what_works_is_not_counted() -> None:
    attempts = Attempts()
    assert attempts(lambda: None)
    assert not attempts.failures
