"""Runs other programs; the only module that imports subprocess."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import CommandError, ComponentError, NeedError, StoreError
from harness.linux import child
from harness.linux.child import Place

_STOPPING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
KILLED_SECONDS = 30.0  # until a killed process has ended, at most: it may have much memory to free
_LOOK_SECONDS = 0.02  # at what a process has said
_LAST_BYTES = 2 << 20  # in which its last words are


class Process(subprocess.Popen[bytes]):
    """A spawned process; what it says is in `log`, from byte `log_start` on."""

    log: Path
    log_start: int


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
    timeout: float = 60,
    input_file: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Completed:
    """Run `argv` to its end; `timeout` in seconds. CommandError if it fails and `check` is set.

    ComponentError if it has to be killed and does not end even then.
    """
    pipe = subprocess.PIPE
    try:
        with input_file.open("rb") if input_file else contextlib.nullcontext() as stdin:
            process = subprocess.Popen(
                list(argv),
                stdin=stdin,
                stdout=pipe,
                stderr=pipe,
                text=True,
                errors="replace",  # tools print names of processes and files, which are any bytes
                env=None if env is None else {**os.environ, **env},
                cwd=cwd,
            )
    except FileNotFoundError as error:
        raise NeedError(f"{argv[0]} is not installed.", next_step="Run `make setup`.") from error
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        _kill(process, argv)
        raise CommandError(
            f"`{' '.join(argv)}` did not end within {timeout} s.",
            "It was killed.",
            "Run it by itself to see where it stands still.",
        ) from error
    except BaseException:
        with contextlib.suppress(ComponentError):  # the wish to stop is not lost by that
            _kill(process, argv)
        raise
    completed = Completed(tuple(argv), process.returncode, stdout, stderr)
    if check and process.returncode:
        tail = (stderr or stdout).strip().splitlines()[-3:]
        raise CommandError(
            f"`{' '.join(argv)}` failed ({process.returncode}).",
            " ".join(tail),
            "Run it by itself to see all that it says.",
        )
    return completed


def _kill(process: subprocess.Popen[str], argv: Sequence[str]) -> None:
    """Kill what `run` began and wait for it, but not for ever: it may hang in the kernel."""
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    process.kill()
    try:
        process.wait(KILLED_SECONDS)
    except subprocess.TimeoutExpired:
        process.returncode = -signal.SIGKILL  # nobody waits for it: no warning when the object goes
        raise _immortal(f"`{' '.join(argv)}`", process.pid) from None


def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    cgroup: Path | None = None,
    cpus: Sequence[int] = (),
) -> Process:
    """Start `argv` inside `cgroup` on `cpus`; it is killed when this process dies.

    What it says is appended to `log`, so that it may say as much as it likes: at a pipe it would
    stand still as soon as nobody reads. The process leads a session of its own, so that a Ctrl-C at
    the terminal reaches only the harness, which then ends it in order. NeedError if it cannot be
    started, StoreError if `log` cannot be written.
    """
    return _start(argv, log, env, cwd, Place(cgroup, tuple(cpus)))


def connect(argv: Sequence[str], *, log: Path, cpus: Sequence[int] = ()) -> Process:
    """Start `argv` on `cpus` with pipes at its stdin and stdout, for the caller to write and read.

    It is not killed when this process dies: it then reads the end of its stdin, and ends in order.
    What it says on stderr is appended to `log`. NeedError if it cannot be started, StoreError if
    `log` cannot be written.
    """
    pipe = subprocess.PIPE
    place = Place(None, tuple(cpus), dies_with_us=False)
    return _start(argv, log, None, None, place, pipe, pipe)


def detach(
    argv: Sequence[str], *, log: Path, cgroup: Path, env: Mapping[str, str] | None = None
) -> int:
    """Start `argv` inside `cgroup` so that it outlives this process; its pid.

    What it says is appended to `log`. NeedError if it cannot be started, StoreError if `log` cannot
    be written.
    """
    process = _start(argv, log, env, log.parent, Place(cgroup, (), dies_with_us=False))
    process.returncode = 0  # nobody here waits for it: no warning when the object goes
    return process.pid


def _start(
    argv: Sequence[str],
    log: Path,
    env: Mapping[str, str] | None,
    cwd: Path | None,
    place: Place,
    stdout: int | None = None,
    stdin: int = subprocess.DEVNULL,
) -> Process:
    try:
        sink = log.open("ab")
    except OSError as error:
        raise StoreError(
            f"Cannot write {log}: {error.strerror}.",
            next_step="Make room there, or let it be written to.",
        ) from error
    start = sink.tell()  # what the process says moves it
    with sink, child.pipe() as refusal:
        try:
            with _undisturbed() as mask:
                process = Process(
                    list(argv),
                    stdin=stdin,
                    stdout=sink if stdout is None else stdout,
                    stderr=sink,
                    env=None if env is None else {**os.environ, **env},
                    cwd=cwd,
                    start_new_session=True,
                    preexec_fn=child.entry(place, mask, refusal),
                )
        except subprocess.SubprocessError as error:
            raise NeedError(
                f"Cannot start {argv[0]}: {refusal.read() or error}.",
                next_step="`harness doctor` says what is allowed on this machine.",
            ) from error
        except OSError as error:
            raise NeedError(
                f"Cannot start {argv[0]}: {error.strerror}.", next_step="Check the command."
            ) from error
        process.log, process.log_start = log, start
    return process


def announced(process: Process, seconds: float) -> dict[str, Any] | None:
    """The JSON object with a key `ready` that a process prints, on a line of its own.

    Other lines may come before it and after it. None if it ended without one, or there is none
    within `seconds`.
    """
    deadline, rest, wait = time.monotonic() + seconds, b"", 0.0
    with process.log.open("rb") as said, _end_of(process) as end:
        said.seek(process.log_start)
        while True:
            is_last = end is None or _readable(end, wait)  # seen before what it said last is read
            *lines, rest = (rest + said.read()).split(b"\n")
            for line in lines:
                if (answer := _announcement(line)) is not None:
                    return answer
            if is_last or time.monotonic() > deadline:
                return None
            wait = _LOOK_SECONDS


def last_words(log: Path, lines: int = 3) -> list[str]:
    """The last lines of what a process said, but that it was ready."""
    with log.open("rb") as file:  # which may be long
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_BYTES))
        said = file.read().decode(errors="replace").splitlines()
    return [line for line in said if _announcement(line.encode()) is None][-lines:]


def _announcement(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"{") or b'"ready"' not in line:
        return None
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return answer if "ready" in answer else None


def ended(process: Process, seconds: float) -> int:
    """Wait for a process that ends by itself; its exit code, or that of being stopped."""
    _await_end(process.pid, seconds)
    return stop(process, grace_seconds=0.0)


def await_end(process: Process, seconds: float) -> bool:
    """Wait so long for a spawned process to end by itself; whether it has. It is not reaped."""
    return process.returncode is not None or _await_end(process.pid, seconds)


def stop(process: Process, *, grace_seconds: float = 5.0) -> int:
    """End a spawned process and its session: SIGTERM, then SIGKILL after the grace time.

    ComponentError if it does not end even then. Safe to call again. Once the process was waited
    for, nothing is signalled any more, because its number may by then be that of a stranger.
    """
    if process.returncode is None:
        os.kill(process.pid, signal.SIGTERM)
        _await_end(process.pid, grace_seconds)
        _kill_session(process.pid)
        if not _await_end(process.pid, KILLED_SECONDS):
            raise _immortal(f"Process {process.pid}", process.pid)
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    return int(process.returncode)


def terminate(process: Process, seconds: float) -> None:
    """SIGTERM to a spawned process alone, and wait so long for its end; it is not waited for."""
    if process.returncode is None:
        os.kill(process.pid, signal.SIGTERM)
        _await_end(process.pid, seconds)


def _immortal(what: str, pid: int) -> ComponentError:
    return ComponentError(
        f"{what} does not end, though it was killed.",
        "The kernel waits on its behalf: for a disk, a mount over the network, a freezer.",
        f"/proc/{pid}/stack says where. Mend that, then run `harness clean`.",
    )


def _await_end(pid: int, seconds: float) -> bool:
    """Wait until the process has ended, but leave it unreaped: its number stays its own."""
    pidfd = os.pidfd_open(pid)
    try:
        return _readable(pidfd, seconds)
    finally:
        os.close(pidfd)


@contextlib.contextmanager
def _end_of(process: Process) -> Iterator[int | None]:
    """A descriptor that is readable once the process has ended; None if it was waited for."""
    pidfd = os.pidfd_open(process.pid) if process.returncode is None else None
    try:
        yield pidfd
    finally:
        if pidfd is not None:
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
