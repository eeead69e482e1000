"""Spawning and ending processes: what they announce, and what is never signalled."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from harness.errors import NeedError, StoreError
from harness.linux import processes

FOREVER = "import time; time.sleep(1000)"


def spawn(tmp_path: Path, code: str) -> processes.Process:
    argv = [sys.executable, "-c", code]
    return processes.spawn(argv, log=tmp_path / "log", pipe_stdout=True)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ('print(\'{"ready": true, "port": 7}\')', {"ready": True, "port": 7}),
        ("import os, time; os.write(1, b'{\"a\"'); time.sleep(.2); os.write(1, b': 1}\\n')",
         {"a": 1}),
        ("pass", None),
        ("print('{\"ready\": true', end='')", None),
        ("print('Listening on port 7')", None),
        ("print('[7]')", None),
    ],
)  # fmt: skip
def test_the_first_line_is_the_announcement(
    tmp_path: Path, code: str, told: dict[str, object] | None
) -> None:
    process = spawn(tmp_path, code)
    try:
        assert processes.announced(process, 30) == told
    finally:
        processes.stop(process)


def test_half_a_line_does_not_wait_for_ever(tmp_path: Path) -> None:
    process = spawn(tmp_path, f"import os; os.write(1, b'{{'); {FOREVER}")
    try:
        assert processes.announced(process, 1) is None
        assert process.poll() is None
    finally:
        processes.stop(process)


def test_stop_ends_the_whole_session_and_may_be_repeated(tmp_path: Path) -> None:
    code = f"""
import json, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "{FOREVER}"], stdout=subprocess.DEVNULL)
print(json.dumps({{"child": child.pid}}), flush=True)
{FOREVER}
"""
    process = spawn(tmp_path, code)
    told = processes.announced(process, 30)
    assert told is not None
    pidfd = os.pidfd_open(told["child"])
    assert processes.stop(process) == -signal.SIGTERM
    assert processes._readable(pidfd, 30), "the child of the stopped process still runs"
    os.close(pidfd)
    assert processes.stop(process) == -signal.SIGTERM


def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    code = f"import signal; signal.signal(15, signal.SIG_IGN); print('{{}}', flush=True); {FOREVER}"
    process = spawn(tmp_path, code)
    assert processes.announced(process, 30) == {}
    assert processes.stop(process, grace_seconds=0.1) == -signal.SIGKILL


def test_a_group_is_killed_before_its_leader_is_reaped_and_never_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []

    def killpg(pid: int, _signal: int) -> None:
        states.append(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])

    monkeypatch.setattr(os, "killpg", killpg)
    process = spawn(tmp_path, "pass")
    processes._await_end(process.pid, 30)
    processes.stop(process)
    assert states == ["Z"], "its number was its own when the group was signalled"
    processes.stop(process)
    noticed = spawn(tmp_path, "pass")
    noticed.wait()
    processes.stop(noticed)
    assert states == ["Z"]


def test_what_cannot_be_started_says_why(tmp_path: Path) -> None:
    with pytest.raises(NeedError, match="Cannot start"):
        processes.spawn([str(tmp_path / "nothing")], log=tmp_path / "log")
    with pytest.raises(StoreError, match="Cannot write"):
        processes.spawn(["true"], log=tmp_path / "no folder" / "log")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_being_told_to_stop_while_a_process_is_made_is_not_lost(tmp_path: Path) -> None:
    """Python prints and forgets what is raised within its callbacks around fork."""
    armed = [os.getpid()]
    os.register_at_fork(
        after_in_parent=lambda: [os.kill(pid, signal.SIGTERM) for pid in armed] and time.sleep(0.01)
    )

    def interrupt(*_: object) -> None:
        armed.clear()
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGTERM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            processes.spawn(["true"], log=tmp_path / "log")
    finally:
        signal.signal(signal.SIGTERM, old)
        armed.clear()
    gc.collect()  # nobody holds the process any more


def test_a_process_may_be_told_to_stop(tmp_path: Path) -> None:
    """Signals are held back for its maker only."""
    code = "import signal; print(list(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    process = spawn(tmp_path, code)
    assert process.stdout is not None
    assert process.stdout.read() == b"[]\n"
    assert processes.ended(process, 10) == 0
