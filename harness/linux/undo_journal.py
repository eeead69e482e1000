"""What each run is about to change on this machine, so that it can be undone after `kill -9`.

The local target writes an entry before each change; `clean` reads those of dead owners.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness.errors import NeedError

DIRECTORY = Path("/run/harness")


@dataclass
class Entry:
    """One run: its owner (pid, start time in clock ticks, boot) and what it changed."""

    run: str
    pid: int
    started: int
    boot: str
    run_dir: str = ""
    cgroups: list[str] = field(default_factory=list)
    mounts: list[str] = field(default_factory=list)

    def alive(self) -> bool:
        """Whether the process that wrote the entry still lives."""
        return self.boot == _boot() and _started(self.pid) == self.started


class Journal:
    """A directory with one JSON file a run."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self.directory = directory

    def open(self, run: str, run_dir: Path | None = None) -> Entry:
        """A new entry owned by this process, not yet written."""
        pid = os.getpid()
        return Entry(run, pid, _started(pid) or 0, _boot(), str(run_dir or ""))

    def scratch(self, run: str) -> Path:
        """A short-named folder for a run's sockets; it goes with the entry."""
        return self.directory / f"{run}.d"

    def write(self, entry: Entry) -> None:
        """Put the entry on the disk before returning; a crash leaves the old or the new one."""
        path = self.directory / f"{entry.run}.json"
        draft = path.with_suffix(".new")
        try:
            with draft.open("w") as stream:
                json.dump(asdict(entry), stream)
                stream.flush()
                os.fsync(stream.fileno())
            draft.rename(path)
            self._sync()
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise NeedError(
                f"The journal {path} cannot be written: {error.strerror}.",
                "Nothing is changed on this machine that could not be undone after a crash.",
                f"Make room in {self.directory.parent}.",
            ) from error

    def remove(self, entry: Entry) -> None:
        """Forget a run whose changes are undone."""
        (self.directory / f"{entry.run}.json").unlink(missing_ok=True)

    def entries(self) -> list[Entry]:
        """All runs, dead and alive."""
        paths = sorted(self.directory.glob("*.json"))
        return [Entry(**json.loads(path.read_text())) for path in paths]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs from changing mounts and journals; the empty directory goes at the end.

        The lock is on the directory itself, so that no lock file stays.
        """
        descriptor = self._lock()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                self.directory.rmdir()
            os.close(descriptor)

    def _sync(self) -> None:
        descriptor = os.open(self.directory, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    def _lock(self) -> int:
        while True:
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self.directory, os.O_RDONLY)
            except (FileExistsError, FileNotFoundError):
                continue  # the last holder removes it at this moment
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == self.directory.stat().st_ino:
                    return descriptor
            os.close(descriptor)  # removed while we waited


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if it is dead or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
