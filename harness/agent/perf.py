"""cpu-clock perf events, one a CPU, that run a BPF program; used by the profile collector."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import platform
import struct
import threading
from pathlib import Path

from harness.agent.errors import AgentError

_LIBC = ctypes.CDLL(None, use_errno=True)
_SYSCALL = {"x86_64": 298, "aarch64": 241}  # perf_event_open
_SOFTWARE, _CPU_CLOCK = 1, 0
_DISABLED, _EXCLUDE_IDLE = 1 << 0, 1 << 7
_FLAG_FD_CLOEXEC = 8
_ENABLE, _DISABLE, _SET_BPF = 0x2400, 0x2401, 0x40042408
_ONLINE = Path("/sys/devices/system/cpu/online")


class Sampler:
    """Runs a program `frequency` times per second of each CPU's busy time, while enabled.

    Its methods are of any thread.
    """

    def __init__(self, program_fd: int, frequency: int) -> None:
        self.hook = f"perf_event/cpu-clock@{frequency}Hz"
        self._program_fd, self._period_ns = program_fd, 10**9 // frequency
        self._fds: dict[int, int] = {}  # by CPU
        self._enabled = False
        self._lock = threading.Lock()
        try:
            for cpu in _online_cpus():
                self._open(cpu)
        except OSError as error:
            self.close()
            raise AgentError(
                "The CPUs cannot be sampled.",
                f"perf_event_open failed: {error.strerror}.",
                "Run as root; in a container allow the perf_event_open system call.",
            ) from error

    def enable(self) -> None:
        """Start sampling on every CPU."""
        with self._lock:
            self._enabled = True
            for fd in self._fds.values():
                fcntl.ioctl(fd, _ENABLE, 0)

    def destroy(self) -> None:
        """Stop sampling, until enabled again."""
        with self._lock:
            self._enabled = False
            for fd in self._fds.values():
                fcntl.ioctl(fd, _DISABLE, 0)

    def follow(self) -> None:
        """Take CPUs that came since, and let go of those that went, whose events are dead."""
        with self._lock:
            self._follow()

    def close(self) -> None:
        """Give the events back to the kernel."""
        with self._lock:
            for fd in self._fds.values():
                os.close(fd)
            self._fds.clear()

    def _follow(self) -> None:
        online = set(_online_cpus())
        for cpu in self._fds.keys() - online:
            os.close(self._fds.pop(cpu))
        for cpu in online - self._fds.keys():
            with contextlib.suppress(OSError):  # it went again: the next look finds out
                self._open(cpu)
                if self._enabled:
                    fcntl.ioctl(self._fds[cpu], _ENABLE, 0)

    def _open(self, cpu: int) -> None:
        fd = _event(cpu, self._period_ns)
        try:
            fcntl.ioctl(fd, _SET_BPF, self._program_fd)
        except OSError:
            os.close(fd)
            raise
        self._fds[cpu] = fd


def _event(cpu: int, period_ns: int) -> int:
    flags = _DISABLED | _EXCLUDE_IDLE
    attributes = struct.pack(  # struct perf_event_attr, PERF_ATTR_SIZE_VER0
        "=IIQQQQQIIQ", _SOFTWARE, 64, _CPU_CLOCK, period_ns, 0, 0, flags, 0, 0, 0
    )
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise AgentError(f"`profile` does not know the machine {platform.machine()}.")
    fd = int(_LIBC.syscall(number, attributes, -1, cpu, -1, _FLAG_FD_CLOEXEC))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd


def _online_cpus() -> list[int]:
    cpus: list[int] = []
    for part in _ONLINE.read_text().strip().split(","):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus
