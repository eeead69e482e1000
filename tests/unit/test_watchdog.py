"""The kernel kills who is not heard of, in whatever state it is."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from harness.linux import processes
from tests.waiting import PATIENCE_SECONDS

CODE = """
import os, signal, time
from harness.agent.watchdog import Watchdog
watchdog = Watchdog({seconds})
watchdog.renew()
{then}
"""


def ends(folder: Path, then: str, seconds: float = 0.1) -> int:
    argv = [sys.executable, "-c", CODE.format(seconds=seconds, then=then)]
    process = processes.spawn(argv, log=folder / "log")
    try:
        return process.wait(PATIENCE_SECONDS)
    finally:
        processes.stop(process)


@pytest.mark.parametrize(
    "then",
    [
        "time.sleep(600)",
        "while True: pass",
        "os.kill(os.getpid(), signal.SIGSTOP)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); time.sleep(600)",
        "import threading; threading.Thread(target=time.sleep, args=[600]).start()",
    ],
)
def test_it_kills_who_is_not_heard_of(tmp_path: Path, then: str) -> None:
    assert ends(tmp_path, then) == -signal.SIGKILL


def test_it_spares_who_renews_it_or_lets_it_sleep(tmp_path: Path) -> None:
    assert ends(tmp_path, "for _ in range(3): watchdog.renew()", seconds=600) == 0
    # seconds, since a busy machine may do something else before it sleeps
    assert ends(tmp_path, "watchdog.renew(); watchdog.sleep(); time.sleep(4)", seconds=3) == 0
