"""This machine as a target: its cgroups, mounts and clean-up; `evaluate` and `clean` use it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import NeedError
from harness.linux import cgroup, facts, mount, processes, syscall
from harness.linux.processes import Completed
from harness.linux.undo_journal import DIRECTORY, Entry, Journal

_BTF = Path("/sys/kernel/btf/vmlinux")


class Local:
    """Runs things on this machine, each in a cgroup below `<cgroup2>/harness-<run>/`.

    Everything it changes is written to the journal first; `down` undoes it, and `clean` does
    so for a run that was killed.
    """

    def __init__(
        self,
        run: str,
        run_dir: Path | None = None,
        *,
        journal: Path = DIRECTORY,
        free_bytes: int = 200 << 20,
    ) -> None:
        self.run, self.run_dir = run, run_dir
        self._journal, self._free_bytes = Journal(journal), free_bytes
        self._entry: Entry | None = None

    @property
    def scratch(self) -> Path:
        """A folder with a short name for sockets; `down` removes it."""
        return self._journal.scratch(self.run)

    def up(self) -> None:
        """Check, undo what dead runs left, mount what is missing and make the run's cgroup."""
        self.check()
        with self._journal.locked():
            _clean(self._journal)
            self._refuse_twice()
            entry = self._entry = self._journal.open(self.run, self.run_dir)
            try:
                self._change(entry)
            except BaseException:
                _undo(self._journal, entry)
                raise

    def down(self) -> None:
        """Undo `up`: kill what still runs, remove the cgroups, unmount what was mounted."""
        if self._entry is None:
            return
        with self._journal.locked():
            _undo(self._journal, self._entry)
        self._entry = None

    def cgroup(self, name: str) -> Path:
        """The run's cgroup of this name (`a/b` nests), made if it is not there."""
        if self._entry is None:
            raise RuntimeError("up() comes first")
        path = Path(self._entry.cgroups[0]) / name
        cgroup.create(path)
        return path

    def facts(self) -> dict[str, Any]:
        """What a reader of the report must know of the machine; JSON-able."""
        return facts.facts()

    def exec(self, argv: Sequence[str], node: str = "") -> Completed:
        """Run a command to its end; there is only one node."""
        return processes.run(argv)

    def push(self, src: Path, dst: Path) -> None:
        """Copy a file or a folder."""
        if src.is_dir():
            shutil.copytree(src, dst, dirs_exist_ok=True)
        else:
            shutil.copy2(src, dst)

    def __enter__(self) -> Local:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def check(self) -> None:
        """NeedError, with what to do, if a run cannot work here; changes nothing."""
        _check_root()
        if not _BTF.exists():
            raise NeedError(
                f"The kernel has no type information ({_BTF}).",
                "The collectors adapt themselves to the kernel with it.",
                "Use a kernel with CONFIG_DEBUG_INFO_BTF=y; all current distributions have it.",
            )
        if mount.find("cgroup2") is None and "cgroup2" not in _filesystems():
            raise NeedError(
                "The kernel has no cgroup v2.",
                "The CPU time of the workload and the collectors is read from it.",
                "Use a kernel with CONFIG_CGROUPS=y, 4.15 or later.",
            )
        self._check_disk()

    def _check_disk(self) -> None:
        for folder in (self.run_dir, self._journal.directory):
            if folder is None:
                continue
            existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
            free = shutil.disk_usage(existing).free
            wanted = self._free_bytes if folder is self.run_dir else 1 << 20
            if free < wanted:
                raise NeedError(
                    f"The disk under {existing} is full: {free >> 20} MiB are free.",
                    f"A run needs {wanted >> 20} MiB for its measurements.",
                    "Free some space, or choose another place for the reports.",
                )

    def _refuse_twice(self) -> None:
        for entry in self._journal.entries():
            if entry.run == self.run:  # of a living process: those of the dead were cleaned
                raise NeedError(
                    f"The run {self.run} is being measured by process {entry.pid}.",
                    "Two processes would end each other's workloads.",
                    "Wait until it ends, or name another run with --run.",
                )

    def _change(self, entry: Entry) -> None:
        for fstype, point in mount.POINTS.items():
            with contextlib.suppress(OSError):  # collectors that need it will say so
                self._mount(entry, fstype, point)
        root = mount.find("cgroup2")
        if root is None or root == self._cgroup_mount:
            root = self._mount_cgroup2(entry)
        path = root / f"harness-{self.run}"
        entry.cgroups.append(str(path))
        self._journal.write(entry)
        cgroup.create(path)
        self.scratch.mkdir(mode=0o700, exist_ok=True)

    def _mount_cgroup2(self, entry: Entry) -> Path:
        point = self._cgroup_mount
        try:
            self._mount(entry, "cgroup2", point)
        except OSError as error:
            raise NeedError(
                f"cgroup v2 cannot be mounted: {error.strerror}.",
                "The CPU time of the workload and the collectors is read from it.",
                "Mount it: mount -t cgroup2 none /sys/fs/cgroup/unified.",
            ) from error
        return point

    @property
    def _cgroup_mount(self) -> Path:
        return self._journal.directory / "cgroup2"

    def _mount(self, entry: Entry, fstype: str, point: Path) -> None:
        if mount.is_mounted(point):
            if any(str(point) in other.mounts for other in self._journal.entries()):
                entry.mounts.append(str(point))  # another run's: whoever ends last unmounts it
                self._journal.write(entry)
            return
        entry.mounts.append(str(point))
        self._journal.write(entry)
        if point == self._cgroup_mount:
            point.mkdir(exist_ok=True)
        syscall.mount(fstype, point)


def clean(directory: Path = DIRECTORY) -> list[str]:
    """Undo what dead runs left on this machine; says in sentences what was done."""
    if not directory.exists():
        return []
    _check_root()
    journal = Journal(directory)
    with journal.locked():
        return _clean(journal)


def refuse_beside_another(directory: Path = DIRECTORY) -> None:
    """NeedError while another evaluation runs: they would measure each other."""
    for entry in Journal(directory).entries():
        if entry.alive() and entry.pid != os.getpid():
            raise NeedError(
                f"The run {entry.run} is being measured by process {entry.pid}.",
                "Two evaluations at once would measure each other.",
                "Wait until it has ended.",
            )


def leftovers(directory: Path = DIRECTORY) -> list[str]:
    """What dead runs left on this machine, in sentences; empty when `clean` has nothing to do."""
    found: list[str] = []
    for entry in Journal(directory).entries():
        if entry.alive():
            continue
        found.append(f"Run {entry.run} was killed (its journal is in {directory}).")
        for path in filter(Path.exists, map(Path, entry.cgroups)):
            found.append(f"The cgroup {path} is left.")
            found += [_describe(pid) for pid in cgroup.processes(path)]
        found += [f"{p} is still mounted." for p in entry.mounts if mount.is_mounted(Path(p))]
    return found


def _check_root() -> None:
    if os.geteuid() != 0:
        raise NeedError(
            "Root is needed.",
            "The kernel lets only root load BPF programs and make cgroups.",
            "Run the command again with sudo.",
        )


def _describe(pid: int) -> str:
    name, programs = "?", set()
    with contextlib.suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        for fdinfo in Path(f"/proc/{pid}/fdinfo").iterdir():
            lines = fdinfo.read_text().splitlines()
            programs |= {line.split()[1] for line in lines if line.startswith("prog_id:")}
    held = f" and holds {len(programs)} BPF programs" if programs else ""
    return f"Process {pid} ({name}) still runs{held}."


def _clean(journal: Journal) -> list[str]:
    done: list[str] = []
    for entry in journal.entries():
        if not entry.alive():
            done += [f"Run {entry.run} had been killed.", *_undo(journal, entry)]
            if entry.run_dir and Path(entry.run_dir).exists():
                done.append(f"Its measurements are kept in {entry.run_dir}.")
    return done


def _undo(journal: Journal, entry: Entry) -> list[str]:
    done: list[str] = []
    for path in filter(Path.exists, map(Path, entry.cgroups)):
        killed = cgroup.remove(path)
        if killed:
            done.append(f"Killed {killed} of its processes.")
        done.append(f"Removed the cgroup {path}.")
    others = [other for other in journal.entries() if other.run != entry.run]
    for point in map(Path, reversed(entry.mounts)):
        if any(str(point) in other.mounts for other in others) or not mount.is_mounted(point):
            continue
        mount.remove(point)
        done.append(f"Unmounted {point}.")
    shutil.rmtree(journal.scratch(entry.run), ignore_errors=True)
    with contextlib.suppress(OSError):
        (journal.directory / "cgroup2").rmdir()
    journal.remove(entry)
    return done


def _filesystems() -> set[str]:
    return {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}
