"""The PID namespace of this process, whose numbers /proc and signals go by; for collectors."""

from __future__ import annotations

import os

_INITIAL = 0xEFFFFFFC  # PROC_PID_INIT_INO in include/linux/proc_ns.h


def inode() -> int:
    """What `targ_pid_ns` in bpf/pid.bpf.h is to be: 0 for the initial one."""
    found = os.stat("/proc/self/ns/pid").st_ino
    return 0 if found == _INITIAL else found
