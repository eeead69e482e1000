"""Who opened a file, as far as /proc can still tell; used by opens and answerer."""

from __future__ import annotations

import contextlib
import os

from harness.agent.text import text


def described(pid: int) -> dict[str, str | int]:
    """A running process by OpenTelemetry's attributes; its pid alone if it has ended."""
    process: dict[str, str | int] = {"process.pid": pid}
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/stat", "rb") as file:
            name, _, rest = file.read().partition(b"(")[2].rpartition(b")")
        process["process.executable.name"] = text(name)
        process["process.parent_pid"] = int(rest.split()[1])
        process["process.executable.path"] = text(os.readlink(f"/proc/{pid}/exe"))
    return process
