"""Why stacks of a JVM are short or have no names; `profile` tells it in its ready line."""

from __future__ import annotations

import os
from pathlib import Path

from harness.agent.bounded import Answers

_FLAG = b"-XX:+PreserveFramePointer"
_VARIABLES = (b"JAVA_TOOL_OPTIONS=", b"JDK_JAVA_OPTIONS=", b"_JAVA_OPTIONS=")


def remark(pid: int) -> str:
    """What is missing of a process that runs a JVM; empty if nothing is, or it runs none.

    So it is of one that does not answer: its memory may be locked, or a file system of it dead.
    """
    try:
        if os.path.basename(os.readlink(f"/proc/{pid}/exe")) != "java":
            return ""
        return Answers().ask(lambda: _missing(pid))
    except OSError:  # it has ended, or is Unanswered
        return ""


def _missing(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended
        return ""
    words += [each for each in variables if each.startswith(_VARIABLES)]
    missing = []
    if not any(_FLAG in each for each in words):
        missing.append(f"stacks end at the first compiled method without {_FLAG.decode()}")
    if not _has_names(pid):
        missing.append("compiled methods have no names without a perf map, and jcmd is not here")
    return f"java ({'; '.join(missing)})" if missing else ""


def _has_names(pid: int) -> bool:
    """Whether there is a perf map, or what has the JVM write one when the names are wanted."""
    import shutil  # and with it libraries that compress, which agents do without

    return shutil.which("jcmd") is not None or any(Path(f"/proc/{pid}/root/tmp").glob("perf-*.map"))
