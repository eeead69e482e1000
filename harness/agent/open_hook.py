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
    why = ""
    for name in (name for hook, name in _PROGRAMS.items() if wanted in ("best", hook)):
        try:
            if _is_called(name, path, btf):
                return name
            why = "The kernel loads such a program, and never runs it."
        except AgentError as error:
            why = error.why
    if wanted in _PROGRAMS:
        raise AgentError(
            f"Opened files cannot be seen by {wanted}.",
            why,
            "Leave --open-hook out, or give another one.",
        )
    return None


def _is_called(name: str, path: Path, btf: Path) -> bool:
    """Whether an opening runs this program; AgentError if the kernel refuses it."""
    obj = Object(path, btf)
    for program in obj.programs:
        if program.name != name:
            program.skip()
    obj.set("targ_probe", 1)
    with contextlib.closing(obj):
        obj.load()
        link = obj.program(name).attach()
        os.close(os.open(os.devnull, os.O_RDONLY))
        link.destroy()
        return bool(int.from_bytes(obj.get("decided"), "little"))
