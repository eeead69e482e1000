"""The pipe to a node process: how it ends."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.targets import channel
from harness.targets.channel import ProcessChannel
from tests.waiting import PATIENCE_SECONDS


def test_a_process_that_does_not_end_is_killed_and_others_are_seen_to_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a node that stands still: it does not see that the controller hangs up."""
    looks = itertools.count()  # at a clock: a second each
    monkeypatch.setattr(channel, "time", SimpleNamespace(monotonic=lambda: next(looks)))
    monkeypatch.setattr(channel, "END_SECONDS", 4)
    monkeypatch.setattr(channel, "_MEANWHILE_SECONDS", 0.01)
    found = ProcessChannel(["cat"], tmp_path / "log")
    os.kill(found.pid, signal.SIGSTOP)
    seen: list[bool] = []
    found.close(lambda: seen.append(Path(f"/proc/{found.pid}").exists()))
    assert seen == [True] * 3
    assert not Path(f"/proc/{found.pid}").exists()
    found.close()


def test_a_process_that_ends_by_itself_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "_MEANWHILE_SECONDS", PATIENCE_SECONDS)
    found = ProcessChannel(["cat"], tmp_path / "log")
    found.close(lambda: pytest.fail("it did not end by itself"))
