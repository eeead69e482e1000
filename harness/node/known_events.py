"""Events of our own whose number is known, beside which a collector's are counted; `always_on`."""

from __future__ import annotations

import platform
import shutil
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from harness.errors import NeedError
from harness.linux import listeners, network_namespace, processes
from harness.node.testbed import Testbed
from harness.wire.telemetry import Made

LOADED = 10  # beside the load: few, because what they cost is in the agent's CPU
ALONE = 90  # after it; four trials then make 400: all of 368 tell that 99 % are seen
PROBE_SECONDS = 10.0
PROBE_SOURCE = "127.0.0.2"  # nobody else on this machine connects from it


@dataclass(frozen=True)
class Known:
    """How many were made, what the attribute of the probes holds, and why there are no more."""

    number: float
    mark: str = ""
    missing: str = ""

    def __add__(self, later: Known) -> Known:
        """Those of both, which were made in the same way."""
        return Known(self.number + later.number, self.mark, self.missing or later.missing)


def make(testbed: Testbed, folder: Path, count: int) -> dict[Made, Known]:
    """Make `count` connections from an address of our own and as many executions in the scope."""
    url, pids = testbed.service.url, testbed.service.pids()
    executable = (folder / "probe").resolve()  # not below /run, which is often mounted noexec
    connects = _until_one_fails(count, PROBE_SOURCE, lambda: connect(url, pids))
    testbed.service.check()
    write_program(executable)
    try:
        executions = _until_one_fails(
            count,
            str(executable),
            lambda: _execute(executable, folder / "probe.log", testbed.service.cgroup),
        )
    finally:
        executable.unlink()
    return {"connects": connects, "executions": executions}


def _until_one_fails(count: int, mark: str, event: Callable[[], str]) -> Known:
    """Up to `count` of them; `event` says why one failed, or ""."""
    for number in range(count):
        if why := event():
            return Known(number, mark, why)
    return Known(count, mark)


def connect(url: str, pids: Sequence[int]) -> str:
    """One connection from PROBE_SOURCE to the service of these processes; why it failed, or ""."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    where = (parts.hostname or "127.0.0.1", port)

    def make() -> None:
        socket.create_connection(where, timeout=5, source_address=(PROBE_SOURCE, 0)).close()

    try:
        pid = _elsewhere(where[0], pids)
        network_namespace.inside(pid, make) if pid else make()
    except OSError as error:  # an IPv6 or a distant address: nobody connects there from loopback
        return f"a connection from {PROBE_SOURCE} failed ({error.strerror or error})"
    return ""


def _elsewhere(host: str, pids: Sequence[int]) -> int:
    """One of the processes, if that address is theirs and not ours, as a pod's is; else 0.

    From loopback it can be reached there alone.
    """
    found = listeners.resolved(host)
    if any(listeners.is_local(each) for each in found):
        return 0
    return next((pid for pid in pids for each in found if listeners.is_local(each, pid)), 0)


def _execute(executable: Path, log: Path, cgroup: Path) -> str:
    try:
        code = processes.ended(
            processes.spawn([str(executable)], log=log, cgroup=cgroup), PROBE_SECONDS
        )
    except NeedError as error:  # the folder lies on a file system without executables
        return f"{executable.parent} holds no executables: {error.what}"
    return f"its execution ended with {code}" if code else ""


# exit(0) in machine code, by what `uname -m` says; e_machine of the ELF header
_EXIT = {
    "x86_64": (62, bytes.fromhex("31ffb83c0000000f05")),  # xor edi,edi; mov eax,60; syscall
    "aarch64": (183, bytes.fromhex("000080d2a80b80d2010000d4")),  # mov x0,0; mov x8,93; svc 0
}


def write_program(path: Path, machine: str = "") -> None:
    """A program that does nothing but end: of our own, because /bin/true may be a program of many
    names that refuses another one.
    """
    kind, code = _EXIT.get(machine or platform.machine(), (0, b""))
    if not code:
        shutil.copy2("/bin/true", path)
        return
    base, header = 0x400000, 64 + 56
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 2, kind, 1, base + header, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    size = header + len(code)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    path.write_bytes(elf + load + code)
    path.chmod(0o755)
