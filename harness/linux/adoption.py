"""Takes processes that others started into a cgroup of ours for a while, and gives them back.

Only where that changes nothing for them: a cgroup v2 without controllers, made below the one in
which they are, so that limits and programs attached there go on to apply. Hosts with v1
controllers need it, where the runtime leaves containers or units together in one v2 cgroup.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from harness.errors import ComponentError, InputError
from harness.linux import cgroup, units

GIVE_BACK_SECONDS = 5.0


def plan(origin: Path, name: str) -> Path:
    """The cgroup of this name below `origin`, which must be in the journal before `adopt`.

    Changes nothing. InputError if moving processes there would change what they may use, or if
    systemd keeps the origin.
    """
    controllers = (origin / "cgroup.subtree_control").read_text().split()
    why = ""
    if controllers:
        why = f"A cgroup of ours in it would come with controllers ({', '.join(controllers)})."
    elif units.is_of_systemd(str(origin)):
        why = "systemd keeps it, and would miss what is taken out."
    if why:
        raise InputError(
            f"The service shares the cgroup {origin} with others.",
            why,
            "Run it in a cgroup of its own (a unit, or systemd-run --scope), and name that.",
        )
    return origin / name


def adopt(own: Path, members: Callable[[], Iterable[int]]) -> Callable[[], list[str]]:
    """Move the processes, with their threads, and those that they fork meanwhile; how to undo it.

    `members` is asked until it names nobody new outside. ComponentError if the kernel refuses.
    """
    cgroup.create(own)
    tried = set[int]()  # one that is a zombie stays outside for ever
    try:
        while outside := set(members()) - set(cgroup.processes(own)) - tried:
            _move(outside, own)
            tried |= outside
    except OSError as error:
        give_back(own)
        raise ComponentError(
            f"The processes of the service cannot be moved to the cgroup {own}: {error.strerror}.",
            "They share a cgroup with others, so that their CPU time cannot be told apart.",
            "Run the service in a cgroup of its own, and name it by --cgroup.",
        ) from error
    except BaseException:
        give_back(own)
        raise
    return partial(give_back, own)


def give_back(own: Path) -> list[str]:
    """Move all that are in our cgroup back to the one above, and remove it; says so in sentences.

    ComponentError if somebody stays; nobody is ever killed. Safe to call again.
    """
    deadline, moved = time.monotonic() + GIVE_BACK_SECONDS, set[int]()
    if not own.is_dir():
        return []
    while not _removed(own):
        pids = cgroup.processes(own)
        moved |= _move(pids, own.parent)
        if time.monotonic() > deadline:
            raise ComponentError(
                f"The cgroup {own} cannot be given back.",
                f"Processes {cgroup.processes(own)} stay in it.",
                f"Write their numbers to {own.parent / 'cgroup.procs'}, then run `harness clean`.",
            )
        time.sleep(0.01)
    return [f"Gave {len(moved)} processes back to the cgroup {own.parent}."]


def _move(pids: Iterable[int], where: Path) -> set[int]:
    """Those that could be moved; one that has ended cannot."""
    moved = set()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            (where / "cgroup.procs").write_text(str(pid))
            moved.add(pid)
    return moved


def _removed(own: Path) -> bool:
    try:
        for folder in cgroup.tree(own):
            folder.rmdir()
    except OSError:  # EBUSY: somebody is in it still
        return False
    return True
