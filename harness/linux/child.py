"""What a child does between fork and exec: where it runs, with whom it dies; for `processes`."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Place:
    """Where a process is to run, and whether it dies with the one that starts it."""

    cgroup: Path | None
    cpus: tuple[int, ...]
    dies_with_us: bool = True


@dataclass(frozen=True)
class Refusal:
    """What a child was refused; Python itself only says that something was raised in it."""

    reading: int
    writing: int

    def write(self, what: str, error: OSError) -> None:
        """Called in the child."""
        name = errno.errorcode.get(error.errno or 0, "")
        os.write(self.writing, f"{what}: {error.strerror} ({name})".encode())

    def read(self) -> str:
        """Called after the child has ended; empty if it was refused nothing."""
        try:
            return os.read(self.reading, 4096).decode()
        except BlockingIOError:
            return ""


@contextlib.contextmanager
def pipe() -> Iterator[Refusal]:
    """A way for a child to tell its maker what it was refused."""
    ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield Refusal(*ends)
    finally:
        for end in ends:
            os.close(end)


def entry(place: Place, mask: set[int], refusal: Refusal) -> Callable[[], None]:
    """For subprocess' preexec_fn; `mask` are the signals that the program is to hold back."""
    parent = os.getpid()

    def prepare() -> None:
        if place.dies_with_us:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # the parent died between fork and prctl
                os._exit(1)
        what = "its scheduling class cannot be set"
        try:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            if place.cgroup is not None:
                what = f"it cannot enter the cgroup {place.cgroup}"
                (place.cgroup / "cgroup.procs").write_text(str(os.getpid()))
            if place.cpus:
                what = f"it cannot run on the CPUs {', '.join(map(str, place.cpus))}"
                os.sched_setaffinity(0, place.cpus)
        except OSError as error:
            refusal.write(what, error)
            raise
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    return prepare
