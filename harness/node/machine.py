"""The machine that is measured: its cgroups, mounts, clean-up; `session`, `answers` use it."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

from harness.errors import ComponentError, NeedError
from harness.linux import bpf_programs, cgroup, facts, mount
from harness.linux.undo_journal import DIRECTORY, Entry, Journal, require_alone
from harness.node import mounts, undo
from harness.wire import run_name

_BTF = Path("/sys/kernel/btf/vmlinux")
_LASTING = Path("/var/tmp")  # on a disk, where /tmp may be memory
_SOCKET_BYTES = 107  # of a UNIX socket's path: sun_path less its end


class Machine:
    """Gives a run cgroups below `<cgroup2>/harness/run-<run>/`, a work folder, and sockets.

    Everything it changes is written to the journal first; `down` undoes it, and `clean` does
    so for a run that was killed. `run_dir` is only told to who cleans: where the measurements are.
    `work` is a folder that is not there yet, a new one in /var/tmp if it is not given. If `alone`
    is False, other runs that say so too may be measured at the same time.
    """

    def __init__(
        self,
        run: str,
        run_dir: str | Path = "",
        *,
        work: Path | None = None,
        journal: Path = DIRECTORY,
        free_bytes: int = 200 << 20,
        alone: bool = True,
    ) -> None:
        self.run, self.work = run, work or _new_folder()
        self._run_dir, self._alone = str(run_dir), alone
        self._journal, self._free_bytes = Journal(journal), free_bytes
        self._entry: Entry | None = None
        self._programs, self._strangers = frozenset[int](), frozenset[int]()

    @property
    def scratch(self) -> Path:
        """A folder with a short name for sockets; `down` removes it."""
        return self._journal.scratch(self.run)

    def socket(self, name: str) -> Path:
        """A path for a UNIX socket of this name, short enough for one; NeedError if none can be."""
        short = hashlib.sha256(name.encode()).hexdigest()[:8]
        for path in (self.scratch / f"{name}.sock", self.scratch / short):
            if len(os.fsencode(path)) <= _SOCKET_BYTES:
                return path
        raise NeedError(
            f"{self.scratch} is too long a path for sockets.",
            f"The path of a UNIX socket has at most {_SOCKET_BYTES} bytes.",
            "Choose a folder with a shorter path.",
        )

    def up(self) -> None:
        """Check, undo what dead runs left, mount what is missing and make the run's cgroup.

        NeedError, before anything is changed, beside another run that is being measured.
        """
        self.check()
        with self._journal.locked():
            self._refuse_another()
            undo.dead(self._journal)
            entry = self._entry = self._journal.open(self.run, self._run_dir)
            try:
                self._change(entry)
                self._programs = bpf_programs.ids()
            except BaseException:
                self._entry = None
                undo.run(self._journal, entry)
                raise

    def down(self) -> None:
        """Undo `up`: kill what still runs, remove the cgroups, unmount what was mounted."""
        if self._entry is None:
            return
        with self._journal.locked():
            undo.run(self._journal, self._entry)
        self._entry = None

    def make(self, name: str) -> Path:
        """Make the run's cgroup of this name (`a/b` nests); it may be there already."""
        path = self._path(name)
        cgroup.create(path)
        return path

    def of(self, name: str) -> Path:
        """The run's cgroup of this name; ComponentError if it was never made, or is gone."""
        path = self._path(name)
        if not path.is_dir():
            raise ComponentError(
                f"The run {self.run} has no cgroup {name!r}.",
                f"{path} was not made, or is gone: nothing could be read from it.",
                "`harness doctor` says whether cgroups can be made here.",
            )
        return path

    def strange_programs(self) -> list[str]:
        """BPF programs that were loaded since `up`: id, name and who holds it of each.

        To be asked for while no collector is installed.
        """
        new = bpf_programs.appeared(self._programs, self._strangers)
        self._strangers = (self._strangers | new) & bpf_programs.ids()
        return bpf_programs.described(self._strangers)

    def lent(self, path: Path) -> None:
        """Note that processes that are not ours are about to be moved to this cgroup."""
        if self._entry is None:
            raise RuntimeError("up() comes first")
        with self._journal.locked():
            self._entry.lent = sorted({*self._entry.lent, str(path)})
            self._journal.write(self._entry)

    def facts(self) -> dict[str, Any]:
        """What a reader of the report must know of the machine; JSON-able."""
        return facts.facts()

    def __enter__(self) -> Machine:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def check(self) -> None:
        """InputError or NeedError, with what to do, if it cannot work here; changes nothing."""
        run_name.check(self.run)
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
        self._check_folders()
        self._refuse_another()

    def _check_folders(self) -> None:
        if self.work.exists():
            raise _taken(self.work)
        for folder, wanted in ((self.work, self._free_bytes), (self._journal.directory, 1 << 20)):
            existing = next(path for path in folder.absolute().parents if path.exists())
            free = shutil.disk_usage(existing).free
            if free < wanted:
                raise NeedError(
                    f"The disk under {existing} is full: {free >> 20} MiB are free.",
                    f"A run needs {wanted >> 20} MiB there while it lasts.",
                    "Free some space.",
                )

    def _path(self, name: str) -> Path:
        if self._entry is None:
            raise RuntimeError("up() comes first")
        return Path(self._entry.cgroups[0]) / name

    def _refuse_another(self) -> None:
        if self._alone:
            require_alone(self._journal)
        for entry in self._journal.entries():
            if entry.alive and entry.run == self.run:
                raise NeedError(
                    f"The run {self.run} is being measured by process {entry.pid}.",
                    "Two processes would end each other's workloads.",
                    "Wait until it ends, or name another run with --run.",
                )

    def _change(self, entry: Entry) -> None:
        path = mounts.complete(self._journal, entry) / cgroup.PARENT / f"run-{self.run}"
        entry.cgroups.append(str(path))
        entry.work = str(self.work)
        self._journal.write(entry)
        cgroup.create(path)
        self.scratch.mkdir(mode=0o700, exist_ok=True)
        self._make_work(entry)

    def _make_work(self, entry: Entry) -> None:
        try:
            self.work.mkdir(mode=0o700)
        except OSError as error:
            entry.work = ""  # somebody else's: it stays
            if isinstance(error, FileExistsError):
                raise _taken(self.work) from error
            raise NeedError(
                f"{self.work} cannot be made: {error.strerror}.",
                next_step=f"Make room in {self.work.parent}, or see who may write there.",
            ) from error


def clean(directory: Path = DIRECTORY) -> list[str]:
    """Undo what dead runs left on this machine; says in sentences what was done."""
    if not directory.exists():
        return []
    _check_root()
    journal = Journal(directory)
    with journal.locked():
        return undo.dead(journal)


def refuse_beside_another(directory: Path = DIRECTORY) -> None:
    """NeedError while another run is being measured: said early; `up` looks again."""
    require_alone(Journal(directory))


def leftovers(directory: Path = DIRECTORY) -> list[str]:
    """What dead runs left on this machine, in sentences; empty when `clean` has nothing to do."""
    found: list[str] = []
    for entry in Journal(directory).entries():
        if not entry.alive:
            found.append(f"Run {entry.run} was killed (its journal is in {directory}).")
            found += undo.remains(entry)
    return found


def _new_folder() -> Path:
    place = _LASTING if _LASTING.is_dir() else Path(tempfile.gettempdir())
    return place / f"harness-{secrets.token_hex(4)}"


def _taken(work: Path) -> NeedError:
    return NeedError(
        f"{work} exists already.",
        "The work folder of a run is removed at its end with all that is in it.",
        "Name one that is not there yet.",
    )


def _check_root() -> None:
    if os.geteuid() != 0:
        raise NeedError(
            "Root is needed.",
            "The kernel lets only root load BPF programs and make cgroups.",
            "Run the command again with sudo.",
        )


def _filesystems() -> set[str]:
    return {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}
