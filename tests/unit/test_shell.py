"""Spawning and ending processes: what they announce, and what is never signalled."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.errors import CommandError, ComponentError, NeedError, StoreError
from harness.linux import processes
from tests.waiting import PATIENCE_SECONDS, until

FOREVER = "import time; time.sleep(1000)"


def spawn(tmp_path: Path, code: str) -> processes.Process:
    return processes.spawn([sys.executable, "-c", code], log=tmp_path / "log")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ('print(\'{"ready": true, "port": 7}\')', {"ready": True, "port": 7}),
        ("import os, time; os.write(1, b'{\"ready\"'); time.sleep(.2); os.write(1, b': 1}\\n')",
         {"ready": 1}),
        ("print('Loading.'); print('{}'); print('{\"port\": 7}'); print('{\"ready\": false}')",
         {"ready": False}),
        ("print('{\"ready\": 1}'); print('{\"ready\": 2}')", {"ready": 1}),
        ("import sys; print('ready', file=sys.stderr); print('[\"ready\"]')", None),
        ("pass", None),
        ("print('{\"ready\": true', end='')", None),
        ("print('{\"ready\": tru')", None),
        ("print('{\"a\":' * 100_000 + '\"ready\"')", None),
    ],
)  # fmt: skip
def test_the_line_that_says_ready_is_the_announcement(
    tmp_path: Path, code: str, told: dict[str, object] | None
) -> None:
    process = spawn(tmp_path, code)
    try:
        assert processes.announced(process, PATIENCE_SECONDS) == told
    finally:
        processes.stop(process)


def test_what_another_process_said_before_in_the_same_log_is_not_taken(tmp_path: Path) -> None:
    first = spawn(tmp_path, "print('{\"ready\": 1}')")
    assert processes.announced(first, PATIENCE_SECONDS) == {"ready": 1}
    processes.stop(first)
    second = spawn(tmp_path, "pass")
    assert processes.announced(second, PATIENCE_SECONDS) is None
    processes.stop(second)


def test_it_may_say_as_much_as_it_likes(tmp_path: Path) -> None:
    """Nobody reads it; in a pipe it would stand still after 64 KiB."""
    code = "print('x' * 99_999); print('{\"ready\": 1}', flush=True); print('y' * 999_999)"
    process = spawn(tmp_path, code)
    assert processes.announced(process, PATIENCE_SECONDS) == {"ready": 1}
    assert processes.ended(process, PATIENCE_SECONDS) == 0
    assert (tmp_path / "log").stat().st_size > 1_000_000
    assert processes.last_words(tmp_path / "log", 2) == ["x" * 99_999, "y" * 999_999]


def test_one_that_was_waited_for_has_announced_what_it_has(tmp_path: Path) -> None:
    process = spawn(tmp_path, "print('{\"ready\": 1}')")
    process.wait()
    assert processes.announced(process, PATIENCE_SECONDS) == {"ready": 1}


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
print(json.dumps({{"ready": True, "child": child.pid}}), flush=True)
{FOREVER}
"""
    process = spawn(tmp_path, code)
    told = processes.announced(process, PATIENCE_SECONDS)
    assert told is not None
    pidfd = os.pidfd_open(told["child"])
    assert processes.stop(process) == -signal.SIGTERM
    assert processes._readable(pidfd, PATIENCE_SECONDS), (
        "the child of the stopped process still runs"
    )
    os.close(pidfd)
    assert processes.stop(process) == -signal.SIGTERM


def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); print('{\"ready\": 1}', flush=True)"
    process = spawn(tmp_path, f"{deaf}; {FOREVER}")
    assert processes.announced(process, PATIENCE_SECONDS) == {"ready": 1}
    assert processes.stop(process, grace_seconds=0.1) == -signal.SIGKILL


def test_a_group_is_killed_before_its_leader_is_reaped_and_never_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []

    def killpg(pid: int, _signal: int) -> None:
        states.append(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])

    monkeypatch.setattr(os, "killpg", killpg)
    process = spawn(tmp_path, "pass")
    processes._await_end(process.pid, PATIENCE_SECONDS)
    processes.stop(process)
    assert states == ["Z"], "its number was its own when the group was signalled"
    processes.stop(process)
    noticed = spawn(tmp_path, "pass")
    noticed.wait()
    processes.stop(noticed)
    assert states == ["Z"]


def test_one_that_is_connected_is_spoken_to_through_pipes(tmp_path: Path) -> None:
    process = processes.connect(["sh", "-c", "echo noise >&2; cat"], log=tmp_path / "log")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"word")
    process.stdin.close()
    assert process.stdout.read() == b"word"
    assert processes.ended(process, PATIENCE_SECONDS) == 0
    assert (tmp_path / "log").read_text() == "noise\n"


def test_one_that_is_connected_ends_in_order_when_its_maker_is_killed(tmp_path: Path) -> None:
    maker = f"""
import os, signal
from pathlib import Path
from harness.linux import processes

folder = Path({str(tmp_path)!r})
argv = ["sh", "-c", "cat; echo undone > " + str(folder / "undone")]
processes.connect(argv, log=folder / "log")
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = processes.run([sys.executable, "-c", maker], check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert until((tmp_path / "undone").exists)


def test_what_cannot_be_started_says_why(tmp_path: Path) -> None:
    with pytest.raises(NeedError, match="Cannot start"):
        processes.spawn([str(tmp_path / "nothing")], log=tmp_path / "log")
    with pytest.raises(StoreError, match="Cannot write"):
        processes.spawn(["true"], log=tmp_path / "no folder" / "log")


def test_a_place_that_a_process_is_refused_is_named_with_the_reason(tmp_path: Path) -> None:
    """Python itself only says that there was an exception in preexec_fn."""
    log, gone = tmp_path / "log", tmp_path / "gone"
    reason = rf"Cannot start true: it cannot enter the cgroup {gone}: No such .* \(ENOENT\)\."
    with pytest.raises(NeedError, match=reason):
        processes.spawn(["true"], log=log, cgroup=gone)
    with pytest.raises(NeedError, match=reason):
        processes.detach(["true"], log=log, cgroup=gone)
    with pytest.raises(NeedError, match=r"it cannot run on the CPUs 9999: .* \(EINVAL\)"):
        processes.spawn(["true"], log=log, cpus=[9999])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_being_told_to_stop_while_a_process_is_made_is_not_lost(tmp_path: Path) -> None:
    """Python prints and forgets what is raised within its callbacks around fork."""
    armed = [threading.get_ident()]  # another thread of the tests may not take it
    os.register_at_fork(
        after_in_parent=lambda: [signal.pthread_kill(me, signal.SIGTERM) for me in armed]
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
    assert processes.ended(process, PATIENCE_SECONDS) == 0
    assert (tmp_path / "log").read_text() == "[]\n"


def test_a_process_that_cannot_be_killed_is_told_and_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that hangs in the kernel: no signal reaches it."""
    process = spawn(tmp_path, FOREVER)
    with monkeypatch.context() as deaf:
        deaf.setattr(os, "kill", lambda *_: None)
        deaf.setattr(os, "killpg", lambda *_: None)
        deaf.setattr(processes, "KILLED_SECONDS", 0.1)
        with pytest.raises(ComponentError, match=f"Process {process.pid} does not end"):
            processes.stop(process, grace_seconds=0.1)
    assert process.poll() is None
    assert processes.stop(process) == -signal.SIGTERM


def test_a_program_that_does_not_end_in_its_time_is_killed() -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(1000)"
    with pytest.raises(CommandError, match=r"did not end within 0\.5 s\. It was killed\."):
        processes.run([sys.executable, "-c", code], timeout=0.5)
    gc.collect()  # a warning if nobody waited for it


@pytest.mark.parametrize("error", [subprocess.TimeoutExpired("", 1), KeyboardInterrupt()])
def test_a_program_that_cannot_be_killed_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """As one that hangs in the kernel; who wanted to stop is not told of it, but can."""
    begun: list[Any] = []

    def hang(program: Any, **_: object) -> None:
        begun.append(program)
        raise error

    monkeypatch.setattr(subprocess.Popen, "communicate", hang)
    monkeypatch.setattr(subprocess.Popen, "kill", lambda _: None)
    monkeypatch.setattr(processes, "KILLED_SECONDS", 0.1)
    told = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ComponentError
    with pytest.raises(told) as caught:
        processes.run([sys.executable, "-c", FOREVER])
    (program,) = begun
    os.kill(program.pid, signal.SIGKILL)
    os.waitpid(program.pid, 0)
    if isinstance(caught.value, ComponentError):
        assert caught.value.what.endswith("does not end, though it was killed.")
        assert str(program.pid) in caught.value.next_step
