"""What each run is about to change on this machine, so that it can be undone after `kill -9`.

`Machine` writes an entry before each change; `clean` reads those of dead owners. An owner lives as
long as it holds the lock on its entry, see `owned_file`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

from harness.errors import NeedError
from harness.linux import owned_file
from harness.wire import folder_lock

DIRECTORY = Path("/run/harness")


@dataclass
class Entry:
    """One run and what it changed; `pid` is its owner's, in the owner's own PID namespace.

    `lent` are cgroups with processes that are not ours, to be given back and never ended.
    `alive` is whether the owner lived when the entry was read.
    """

    run: str
    pid: int
    run_dir: str = ""
    work: str = ""
    cgroups: list[str] = field(default_factory=list)
    mounts: list[str] = field(default_factory=list)
    lent: list[str] = field(default_factory=list)
    alive: bool = field(default=True, compare=False)


_KEPT = [each.name for each in fields(Entry) if each.name != "alive"]


class Journal:
    """A directory with one JSON file a run."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self.directory = directory
        self._owned: dict[str, int] = {}  # descriptors, by run

    def open(self, run: str, run_dir: str = "") -> Entry:
        """A new entry owned by this process, not yet written."""
        return Entry(run, os.getpid(), run_dir)

    def scratch(self, run: str) -> Path:
        """A folder for a run's sockets, whose name is short whatever the run's; goes with it."""
        return self.directory / hashlib.sha256(run.encode()).hexdigest()[:8]

    def write(self, entry: Entry) -> None:
        """Put the entry on the disk before returning; a crash leaves the old or the new one.

        The journal is to be locked.
        """
        text = json.dumps({name: getattr(entry, name) for name in _KEPT})
        try:
            descriptor = owned_file.write(self._path(entry.run), text)
        except OSError as error:
            raise NeedError(
                f"The journal {self._path(entry.run)} cannot be written: {error.strerror}.",
                "Nothing is changed on this machine that could not be undone after a crash.",
                f"Make room in {self.directory.parent}.",
            ) from error
        self._give_up(entry.run)
        self._owned[entry.run] = descriptor

    def remove(self, entry: Entry) -> None:
        """Forget a run whose changes are undone."""
        self._path(entry.run).unlink(missing_ok=True)
        self._give_up(entry.run)

    def entries(self) -> list[Entry]:
        """All runs, dead and alive; NeedError if one cannot be read."""
        found = []
        for path in self._paths():
            with contextlib.suppress(FileNotFoundError):  # its run ended at this moment
                found.append(_entry(path))
        return found

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs from changing mounts and journals; the empty directory goes at the end.

        The lock is on the directory itself, so that no lock file stays.
        """
        descriptor = folder_lock.open_locked(self.directory)
        try:
            yield
        finally:
            for draft in self.directory.glob("*.new"):  # of one that was killed while it wrote
                draft.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.directory.rmdir()
            os.close(descriptor)

    def _path(self, run: str) -> Path:
        return self.directory / f"{run}.json"

    def _paths(self) -> list[Path]:
        try:
            names = sorted(os.listdir(self.directory))
        except FileNotFoundError:
            return []
        return [self.directory / name for name in names if name.endswith(".json")]

    def _give_up(self, run: str) -> None:
        if (descriptor := self._owned.pop(run, None)) is not None:
            os.close(descriptor)


def require_alone(journal: Journal) -> None:
    """NeedError while another run is being measured; the journal is to be locked, or it may yet."""
    for entry in journal.entries():
        if entry.alive:
            raise NeedError(
                f"The run {entry.run} is being measured by process {entry.pid}.",
                "Two at once would measure each other.",
                "Wait until it has ended.",
            )


def _entry(path: Path) -> Entry:
    text, alive = owned_file.read(path)
    try:
        told = json.loads(text)
        return Entry(**{name: told[name] for name in _KEPT if name in told}, alive=alive)
    except (ValueError, TypeError) as error:
        raise NeedError(
            f"The journal {path} cannot be read: {error}.",
            "What its run changed on this machine is not known.",
            "End what is in the cgroups harness/*, then remove that file.",
        ) from error
