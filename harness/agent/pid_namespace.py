"""The PID namespace of this process, whose numbers /proc and signals go by; for collectors."""

from __future__ import annotations

import os
from pathlib import Path

from harness.agent import cgroup
from harness.agent.errors import AgentError

_INITIAL = 0xEFFFFFFC  # PROC_PID_INIT_INO in include/linux/proc_ns.h


def inode() -> int:
    """What `targ_pid_ns` in bpf/pid.bpf.h is to be: 0 for the initial one."""
    found = os.stat("/proc/self/ns/pid").st_ino
    return 0 if found == _INITIAL else found


def require_sight(path: Path) -> None:
    """AgentError if no process of this cgroup has a number here: nothing would be known of any.

    Where some have, the samples of the others are those of process 0.
    """
    if {pid for each in cgroup.folders(path) for pid in _lines(each / "cgroup.procs")} == {"0"}:
        raise AgentError(
            f"Processes of {path} cannot be seen from here.",
            "They are in a PID namespace that is neither this agent's nor below it.",
            "Run the agent in the host's: `docker run --pid=host`, in a pod `hostPID: true`.",
        )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:  # the cgroup is gone, or it holds threads
        return []
