"""A node's pipe as the stdin and stdout of a child process; every target has such a child."""

from __future__ import annotations

import os
import select
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import NodeError
from harness.linux import processes

SEND_SECONDS = 60.0
END_SECONDS = 120.0  # what a node takes to undo everything, at most
_MEANWHILE_SECONDS = 15.0


class ProcessChannel:
    """A child that speaks frames; what it says on stderr goes to `log`, for its last words."""

    def __init__(self, argv: Sequence[str], log: Path, cpus: Sequence[int] = ()) -> None:
        self._log = log
        self._process = processes.connect(argv, log=log, cpus=cpus)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._sink, self._source = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._sink, False)

    @property
    def pid(self) -> int:
        """The child's."""
        return self._process.pid

    def send(self, data: bytes) -> None:
        """All of it, or NodeError."""
        left, poll = memoryview(data), select.poll()
        poll.register(self._sink, select.POLLOUT)
        while left:
            if not poll.poll(1000 * SEND_SECONDS):
                raise NodeError(
                    f"The node took nothing for {SEND_SECONDS:.0f} s.",
                    next_step="Look whether its machine answers, then resume the run.",
                )
            try:
                left = left[os.write(self._sink, left) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise NodeError(
                    f"The node does not listen any more: {error.strerror}.",
                    next_step="Look whether its machine answers, then resume the run.",
                ) from error

    def receive(self, size: int, seconds: float) -> bytes:
        """Up to so many bytes; b"" at the end, TimeoutError when nothing came in time."""
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        if not poll.poll(max(0.0, seconds) * 1000):
            raise TimeoutError
        return os.read(self._source, size)

    def close(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Hang up, let it undo what it did, and wait for it; safe to call again."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        if self._process.returncode is not None:
            return
        deadline = time.monotonic() + END_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            if processes.await_end(self._process, min(left, _MEANWHILE_SECONDS)):
                break
            meanwhile()
        processes.stop(self._process, grace_seconds=0.0)

    def last_words(self) -> str:
        """The end of what it said on stderr."""
        try:
            lines = self._log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return " ".join(lines[-3:])


class SaidChannel(ProcessChannel):
    """What the node says on stderr is in a file without a name, which goes with both processes."""

    def __init__(self, argv: Sequence[str], cpus: Sequence[int] = ()) -> None:
        self._said, name = tempfile.mkstemp(prefix="harness-node-")
        try:
            super().__init__(argv, Path(name), cpus)
        finally:
            os.unlink(name)

    def close(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Hang up, let it undo what it did, and wait for it; safe to call again."""
        super().close(meanwhile)
        self._words = self.last_words()
        if self._said >= 0:
            os.close(self._said)
        self._said = -1

    def last_words(self) -> str:
        """The end of what it said on stderr."""
        if self._said < 0:
            return self._words
        said = os.pread(self._said, 1 << 20, max(0, os.fstat(self._said).st_size - (1 << 20)))
        return " ".join(said.decode(errors="replace").strip().splitlines()[-3:])
