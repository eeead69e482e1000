"""Undoes on this machine what the journal says that runs changed; `machine` uses it."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from harness.errors import HarnessError
from harness.linux import adoption, bpf_programs, cgroup, mount
from harness.linux.undo_journal import Entry, Journal


def run(journal: Journal, entry: Entry) -> list[str]:
    """Undo what one run changed; says in sentences what was done. The journal is to be locked.

    ComponentError, and its entry stays, if a cgroup cannot be emptied.
    """
    done = [said for path in entry.lent for said in adoption.give_back(Path(path))]
    for path in map(Path, entry.cgroups):
        is_left = path.exists()
        killed = cgroup.remove(path)  # of one that is gone the parent may be left
        if killed:
            done.append(f"Killed {killed} of its processes.")
        if is_left:
            done.append(f"Removed the cgroup {path}.")
    others = [other for other in journal.entries() if other.run != entry.run]
    for point in map(Path, reversed(entry.mounts)):
        if any(str(point) in other.mounts for other in others) or not mount.is_mounted(point):
            continue
        mount.remove(point)
        done.append(f"Unmounted {point}.")
    for folder in [journal.scratch(entry.run), *_work(entry)]:
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
            done.append(f"Removed the folder {folder}.")
    with contextlib.suppress(OSError):
        (journal.directory / "cgroup2").rmdir()
    journal.remove(entry)
    return done


def dead(journal: Journal) -> list[str]:
    """Undo all runs whose owner is dead; the first error is raised after the others were undone."""
    done, failed = list[str](), list[HarnessError]()
    for entry in journal.entries():
        if entry.alive:
            continue
        try:
            done += [f"Run {entry.run} had been killed.", *run(journal, entry)]
        except HarnessError as error:
            failed.append(error)
            continue
        if entry.run_dir and Path(entry.run_dir).exists():
            done.append(f"Its measurements are kept in {entry.run_dir}.")
    if failed:
        raise failed[0]
    return done


def remains(entry: Entry) -> list[str]:
    """What is there now of what a run changed, in sentences."""
    lent = filter(Path.exists, map(Path, entry.lent))
    found = [f"Processes that are not ours were moved to the cgroup {path}." for path in lent]
    for path in filter(Path.exists, map(Path, entry.cgroups)):
        found.append(f"The cgroup {path} is left.")
        found += [_describe(pid) for pid in cgroup.processes(path)]
    found += [f"{p} is still mounted." for p in entry.mounts if mount.is_mounted(Path(p))]
    found += [f"The folder {folder} is left." for folder in _work(entry) if folder.exists()]
    return found


def _work(entry: Entry) -> list[Path]:
    return [Path(entry.work)] if entry.work else []


def _describe(pid: int) -> str:
    name, programs = "?", bpf_programs.held(pid)
    with contextlib.suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    held = f" and holds {len(programs)} BPF programs" if programs else ""
    return f"Process {pid} ({name}) still runs{held}."
