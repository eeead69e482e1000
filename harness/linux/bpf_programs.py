"""Which BPF programs are loaded in this kernel, and who holds them; used by trials and `clean`."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Collection, Iterable
from pathlib import Path

from harness.linux import syscall

FREED_SECONDS = 2.0  # the kernel frees programs a little after the last one who held them ended
_NAME = slice(64, 80)  # of struct bpf_prog_info


def ids() -> frozenset[int]:
    """The ids of all that are loaded; none where this may not be asked. They are given but once."""
    found = set[int]()
    with contextlib.suppress(PermissionError):
        last = syscall.next_program_id(0)
        while last is not None:
            found.add(last)
            last = syscall.next_program_id(last)
    return frozenset(found)


def appeared(
    before: Collection[int], known: Collection[int] = (), *, seconds: float = FREED_SECONDS
) -> frozenset[int]:
    """Those that were not there `before` and are none of the `known`, and do not go by themselves.

    `before` is what `ids` said when nothing of ours was loaded, `known` what runs on purpose.
    """
    return remaining(ids() - {*before, *known}, seconds=seconds)


def remaining(program_ids: Collection[int], *, seconds: float = FREED_SECONDS) -> frozenset[int]:
    """Those of these that stay loaded, though whoever loaded them has ended."""
    deadline = time.monotonic() + seconds
    while (left := ids().intersection(program_ids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def held(pid: int) -> set[int]:
    """The ids of those that this process holds, itself or by what it attached; none if it ended."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for fdinfo in Path(f"/proc/{pid}/fdinfo").iterdir():
            lines = fdinfo.read_text(errors="replace").splitlines()
            found |= {int(line.split()[1]) for line in lines if line.startswith("prog_id:")}
    return found


def attached(pid: int) -> set[int]:
    """The ids of those that this process attached to perf events, of which `held` does not know.

    Those of the type perf_event the kernel does not tell.
    """
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if path.readlink().name == "anon_inode:[perf_event]":
                    found.add(syscall.attached_program(pid, int(path.name)))
    return found


def described(program_ids: Iterable[int]) -> list[str]:
    """Each for a sentence: its id, its name and who holds it."""
    wanted = sorted(program_ids)
    holders: dict[int, list[str]] = {each: [] for each in wanted}
    for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
        for each in held(pid) & holders.keys():
            holders[each].append(str(pid))
    return [f"{each} ({_name(each)}, {_by(holders[each])})" for each in wanted]


def _by(pids: list[str]) -> str:
    if not pids:
        return "held by no process: pinned or attached"
    return f"held by process {' and '.join(pids)}"


def _name(program_id: int) -> str:
    info = ctypes.create_string_buffer(_NAME.stop)
    try:
        descriptor = syscall.program_fd(program_id)
    except OSError:
        return "gone by now"
    try:
        syscall.object_info(descriptor, info)
    finally:
        os.close(descriptor)
    return info.raw[_NAME].rstrip(b"\0").decode(errors="replace") or "without a name"
