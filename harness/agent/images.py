"""What the sampled processes run, looked at while they last; used by `profile`.

The kernel half tells each process image (a program that a process runs, until the next exec) with
its first sample, and a thread reads at once what it has mapped: at the drain it may have ended.
One that ended before that, but was only forked, has what its parent has.
A process or a file may not answer, as of a dead file system: it is asked again at the next drain.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

from harness.agent.bounded import Answers, Unanswered
from harness.agent.elf import Elf
from harness.agent.maps import Map, RingBuffer
from harness.agent.memory import mapped, start_stack
from harness.agent.pprof import Mapping
from harness.agent.responder import Responder
from harness.agent.text import text

_WAIT_SECONDS = 5.0
_FILES = 4096  # whose build ids are remembered
TOLD = struct.Struct("=QQII64s")  # struct image of profile.bpf.c


@dataclass
class Image:
    """A process image; `mappings` are its executable ones, by address, () if none were seen."""

    pid: int
    parent: int
    executable: str
    start_stack: int
    mappings: tuple[Mapping, ...] = ()
    ended: bool = False
    forgotten_next: bool = False

    @property
    def runs(self) -> bool:
        """Whether the process still runs it."""
        return start_stack(self.pid) == self.start_stack

    @property
    def lenders(self) -> tuple[int, int]:
        """The processes that may have its memory: itself, and who forked it."""
        return self.pid, self.parent


class Images:
    """The process images that were told, by process and the kernel half's number.

    `begun` is called with each; if it is false, the next sample tells the image again.
    """

    def __init__(
        self, ring: Map, told: Map, begun: Callable[[Image], bool], answers: Answers
    ) -> None:
        self._told, self._begun, self._answers = told, begun, answers
        self._known: dict[tuple[int, int], Image] = {}
        self._same: dict[tuple[Mapping, ...], tuple[Mapping, ...]] = {}  # forks: kept once
        self._build_ids = BuildIds(answers)
        self._lock = threading.Lock()
        self._closed = self._held_up = False
        self._ring = RingBuffer(ring, self._take)
        self._thread = Responder({ring.fd: self._look})

    def find(self, pid: int, number: int) -> Image | None:
        """The image of a sample; None if it could not be told."""
        if (pid, number) not in self._known and self._waited():
            try:
                self._consume()
            finally:
                self._lock.release()
        return self._known.get((pid, number))

    def refresh(self, image: Image) -> None:
        """Take what is mapped by now, if it still runs; else what was seen remains."""
        if not image.ended:
            with contextlib.suppress(Unanswered):
                image.ended = not self._read(image, image.pid)

    def forget(self) -> list[Image]:
        """Drop those that had ended by the last time; a sample of them may have been under way."""
        if not self._waited():
            return []
        try:
            gone = {key: each for key, each in self._known.items() if each.forgotten_next}
            for key in gone:
                del self._known[key]
            for each in self._known.values():
                each.forgotten_next = each.ended or not each.runs
            self._same = {each.mappings: each.mappings for each in self._known.values()}
        finally:
            self._lock.release()
        return list(gone.values())

    def close(self) -> bool:
        """End the thread; False if it is held up, for then it still uses the ring and the maps."""
        self._closed = True  # without the lock: whoever is held up has it
        self._answers.close()
        self._thread.close()
        if not self._lock.acquire(blocking=False):
            return False
        self._lock.release()
        self._ring.close()
        return True

    def _waited(self) -> bool:
        """Whether the lock is had now; a thread that a file system holds up is waited for once."""
        had = self._lock.acquire(timeout=0 if self._held_up else _WAIT_SECONDS)
        self._held_up = not had
        return had

    def _look(self) -> None:
        with self._lock:
            self._consume()

    def _consume(self) -> None:
        if not self._closed:
            self._ring.consume()

    def _take(self, raw: bytes) -> None:
        number, stack, pid, parent, name = TOLD.unpack(raw)
        image = Image(pid, parent, text(name.split(b"\0")[0]), stack)
        with contextlib.suppress(Unanswered):
            image.ended = not self._read(image, pid)
            if image.ended:
                self._read(image, parent)
        self._known[pid, number] = image
        if not self._begun(image):
            self._told.delete(struct.pack("=I", pid))

    def _read(self, image: Image, pid: int) -> bool:
        """Whether the process has this image; then its mappings are those of the image.

        Unanswered while its memory is locked, which nobody else can read either.
        """
        found = self._answers.ask(lambda: mapped(pid), ("process", pid))
        if not found or start_stack(pid) != image.start_stack:  # asked after, for it may exec
            return False
        mappings = tuple(
            mapping._replace(build_id=self._build_ids.find(pid, mapping.path, file))
            for mapping, file in found
        )
        image.mappings = self._same.setdefault(mappings, mappings)
        return True


class BuildIds:
    """Build ids of files, each read once; those that nobody asked for lately are forgotten."""

    def __init__(self, answers: Answers) -> None:
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._answers = answers
        self._lock = threading.Lock()  # not held while a file is read

    def find(self, pid: int, path: str, file: str) -> str:
        """Of a file that a process has mapped, `file` by its device and inode; "" without one."""
        key = file, path
        found = self._known.get(key)
        if found is None and path.startswith("/"):
            with contextlib.suppress(OSError, ValueError, struct.error):  # Unanswered, too
                found = self._answers.ask(
                    lambda: _build_id(Path(f"/proc/{pid}/root{path}")), folder(path, file)
                )
        if found is None:
            return ""
        with self._lock:
            self._known[key] = found
            self._known.move_to_end(key)
            while len(self._known) > _FILES:
                self._known.popitem(last=False)
        return found


def folder(path: str, file: str) -> Hashable:
    """The folder of a file that is mapped, whoever has it: what does not answer is seldom alone."""
    return "folder", file.rpartition(":")[0], os.path.dirname(path)


def _build_id(path: Path) -> str:
    with contextlib.closing(Elf(path)) as elf:
        return elf.build_id()
