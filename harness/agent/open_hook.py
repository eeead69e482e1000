"""Which program of `guard` sees opened files, found by trying; used by guard.

Some kernels load these programs and never run them.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from harness.agent.errors import AgentError
from harness.agent.libbpf import Object

_PROGRAMS = {"lsm": "on_open_lsm", "fentry": "on_open_fentry"}  # the best first
CHOICES = ("best", *_PROGRAMS, "fanotify")


def found(wanted: str, path: Path, btf: Path) -> str | None:
    """The first BPF hook that is really called when a file is opened, by trying; else None.

    AgentError if one was wanted that is not.
    """
    for name in (name for hook, name in _PROGRAMS.items() if wanted in ("best", hook)):
        obj = Object(path, btf)
        for program in obj.programs:
            if program.name != name:
                program.skip()
        obj.set("targ_probe", 1)
        with contextlib.suppress(AgentError), contextlib.closing(obj):
            obj.load()
            link = obj.program(name).attach()
            os.close(os.open(os.devnull, os.O_RDONLY))
            link.destroy()
            if int.from_bytes(obj.get("events"), "little"):
                return name
    if wanted in _PROGRAMS:
        raise AgentError(
            f"Opened files cannot be seen by {wanted}.",
            "The kernel does not load such a program, or does not run it.",
            "Leave --open-hook out, or give another one.",
        )
    return None
