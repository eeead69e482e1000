"""Runs other programs; the only module that imports subprocess."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import CommandError, NeedError, StoreError

Process = subprocess.Popen[bytes]

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_STOPPING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@dataclass(frozen=True)
class Completed:
    """A program that ran to its end."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str],
    *,
    check: bool = True,
    timeout: float | None = 60,
    input_text: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Completed:
    """Run `argv` to its end; `timeout` in seconds. CommandError if it fails and `check` is set."""
    try:
        done = subprocess.run(
            list(argv),
            input=input_text,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=None if env is None else {**os.environ, **env},
            cwd=cwd,
            check=False,
        )
    except FileNotFoundError as error:
        raise NeedError(f"{argv[0]} is not installed.", next_step="Run `make setup`.") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"`{' '.join(argv)}` did not end within {timeout} s.") from error
    completed = Completed(tuple(argv), done.returncode, done.stdout, done.stderr)
    if check and done.returncode:
        tail = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise CommandError(f"`{' '.join(argv)}` failed ({done.returncode}).", " ".join(tail))
    return completed


def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    cgroup: Path | None = None,
    cpus: Sequence[int] = (),
    pipe_stdout: bool = False,
) -> Process:
    """Start `argv` inside `cgroup` on `cpus`; it is killed when this process dies.

    stderr (and stdout, unless piped) is appended to `log`. The process leads a session of its
    own, so that a Ctrl-C at the terminal reaches only the harness, which then ends it in order.
    NeedError if it cannot be started, StoreError if `log` cannot be written.
    """
    try:
        sink = log.open("ab")
    except OSError as error:
        raise StoreError(f"Cannot write {log}: {error.strerror}.") from error
    with sink:
        try:
            with _undisturbed() as mask:
                return subprocess.Popen(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if pipe_stdout else sink,
                    stderr=sink,
                    env=None if env is None else {**os.environ, **env},
                    cwd=cwd,
                    start_new_session=True,
                    preexec_fn=_enter(cgroup, tuple(cpus), mask),
                )
        except (OSError, subprocess.SubprocessError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise NeedError(
                f"Cannot start {argv[0]}: {why}.", next_step="Check the command."
            ) from error


def detach(
    argv: Sequence[str], *, log: Path, cgroup: Path, env: Mapping[str, str] | None = None
) -> int:
    """Start `argv` inside `cgroup` so that it outlives this process; its pid.

    stdout and stderr are appended to `log`. NeedError if it cannot be started, StoreError if
    `log` cannot be written.
    """
    try:
        sink = log.open("ab")
    except OSError as error:
        raise StoreError(f"Cannot write {log}: {error.strerror}.") from error
    with sink:
        try:
            with _undisturbed() as mask:
                process = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    env=None if env is None else {**os.environ, **env},
                    cwd=log.parent,
                    start_new_session=True,
                    preexec_fn=_enter(cgroup, (), mask, dies_with_us=False),
                )
        except (OSError, subprocess.SubprocessError) as error:
            raise NeedError(
                f"Cannot start {argv[0]}: {error}.", next_step="Check the command."
            ) from error
    process.returncode = 0  # nobody here waits for it: no warning when the object goes
    return process.pid


def announced(process: Process, seconds: float) -> dict[str, Any] | None:
    """The JSON object that a process spawned with `pipe_stdout` prints as its first line.

    None if it ended, said nothing within `seconds`, or said something else. Whatever it prints
    together with that line is lost: it must announce itself once and then be silent.
    """
    assert process.stdout is not None
    deadline, fd, said = time.monotonic() + seconds, process.stdout.fileno(), b""
    while b"\n" not in said:
        if not _readable(fd, deadline - time.monotonic()):
            return None
        piece = os.read(fd, 65536)
        if not piece:
            return None
        said += piece
    try:
        answer = json.loads(said.partition(b"\n")[0])
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def ended(process: Process, seconds: float) -> int:
    """Wait for a process that ends by itself; its exit code, or that of being stopped."""
    _await_end(process.pid, seconds)
    return stop(process, grace_seconds=0.0)


def stop(process: Process, *, grace_seconds: float = 5.0) -> int:
    """End a spawned process and its session: SIGTERM, then SIGKILL after the grace time.

    Safe to call again. Once the process was waited for, nothing is signalled any more, because
    its number may by then be that of a stranger.
    """
    if process.returncode is None:
        os.kill(process.pid, signal.SIGTERM)
        _await_end(process.pid, grace_seconds)
        _kill_session(process.pid)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
    return int(process.returncode)


def _await_end(pid: int, seconds: float) -> None:
    """Wait until the process has ended, but leave it unreaped: its number stays its own."""
    pidfd = os.pidfd_open(pid)
    try:
        _readable(pidfd, seconds)
    finally:
        os.close(pidfd)


def _readable(fd: int, seconds: float) -> bool:
    poll = select.poll()  # not select(), which fails from descriptor 1024 on
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def _kill_session(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


@contextlib.contextmanager
def _undisturbed() -> Iterator[set[int]]:
    """Hold signals back while a process is made; the mask that it is to have.

    What a handler raises within Python's own callbacks around fork is printed and lost, and with it
    the wish to stop.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield {int(number) for number in before}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _enter(
    cgroup: Path | None, cpus: tuple[int, ...], mask: set[int], *, dies_with_us: bool = True
) -> Callable[[], None]:
    parent = os.getpid()

    def prepare() -> None:
        if dies_with_us:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # the parent died between fork and prctl
                os._exit(1)
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        if cgroup is not None:
            (cgroup / "cgroup.procs").write_text(str(os.getpid()))
        if cpus:
            os.sched_setaffinity(0, cpus)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    return prepare
