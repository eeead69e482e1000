"""What a run may be called: one rule for every command, on both sides of the seam."""

from __future__ import annotations

import re

from harness.errors import InputError

LONGEST = 100
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def check(name: str) -> None:
    """InputError if a folder, a cgroup and a journal entry cannot be named after this run."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST:
        raise InputError(
            f"{name[:LONGEST]!r} cannot be the name of a run.",
            "Its folder and its cgroup are named after it.",
            f"Use at most {LONGEST} letters (A to Z), digits, dots, dashes and underscores; the "
            "first is no dot or dash.",
        )
