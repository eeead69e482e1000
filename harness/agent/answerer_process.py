"""The answerer as its agent sees it: started, told what to watch and asked; used by denier.

It ends with this process, however that ends, because it reads from a socket of ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.agent.answerer import MESSAGE_BYTES
from harness.agent.errors import AgentError
from harness.agent.fanotify import File

COMMAND = (sys.executable, "-S", "-m", "harness.agent.answerer")
_ROOT = str(Path(__file__).parents[2])
_REPLY_SECONDS, _END_SECONDS = 2.0, 1.0
_STILL_SECONDS, _START_SECONDS = 10.0, 120.0  # without progress; however much of that there is
_PATHS_BYTES = MESSAGE_BYTES // 4


class AnswererProcess:
    """A running answerer for the cgroup `scope`; AgentError from whatever it is asked in vain.

    One thread at a time. What failed once is ended, so that its marks are gone and nobody waits.
    """

    def __init__(self, scope: Path, command: Sequence[str] = COMMAND) -> None:
        self.lost = 0
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._told, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._line = b""
        with control, told:
            self.pid = _spawned([*command, str(scope)], control, told)
        self._exit: int | None = None
        self._handle = os.pidfd_open(self.pid)
        self._ended = select.poll()
        self._ended.register(self._handle, select.POLLIN)
        self._told.setblocking(False)
        self._control.settimeout(_REPLY_SECONDS)
        try:
            self._ask({}, self._await_start)
        except AgentError:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether it runs, or is stopped."""
        return not self._ended.poll(0)

    def mark(self, paths: Sequence[str]) -> list[File | None]:
        """Let openers of these files wait for it; each file's identity, None if it is not there."""
        found: list[File | None] = []
        for part in _parts(paths):
            files = self._ask({"mark": part})["files"]
            found += [None if each is None else (each[0], each[1]) for each in files]
        return found

    def unmark(self) -> None:
        """Let nobody wait any more; never fails, for it is ended if it does not obey."""
        with contextlib.suppress(AgentError):
            self._ask({"unmark": True})

    def denials(self) -> list[dict[str, Any]]:
        """Whom it denied which file since the last time: `at_ns`, `process`, `file`, `path`."""
        with contextlib.suppress(OSError):  # no more
            while piece := self._told.recv(MESSAGE_BYTES):
                self._line += piece
        *lines, self._line = self._line.split(b"\n")
        found: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.lost = max([self.lost, *(each.pop("lost") for each in found)])
        return found

    def end(self) -> None:
        """End it, which lets everybody go; what it told can still be read. Safe to call again."""
        self._control.close()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        self._ended.poll(_END_SECONDS * 1000)

    def close(self) -> None:
        """End it and forget it."""
        self.end()
        self._told.close()
        self.ending()  # reaps it
        os.close(self._handle)

    def ending(self) -> str:
        """How it ended, in words."""
        if self.alive:
            return "does not answer"
        if self._exit is None:
            with contextlib.suppress(ChildProcessError):  # SIGCHLD is ignored: nobody knows
                self._exit = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        code = self._exit or 0
        return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def _await_start(self) -> None:
        """Wait for its first answer, for as long as it gets on: nobody waits for a file yet.

        On a machine that is very busy that takes many seconds. TimeoutError if it does nothing.
        """
        answered = select.poll()
        answered.register(self._control, select.POLLIN)
        did, end = _did(self.pid), time.monotonic() + _START_SECONDS
        while not answered.poll(_STILL_SECONDS * 1000):
            before, did = did, _did(self.pid)
            if did == before or time.monotonic() > end:
                raise TimeoutError

    def _ask(
        self, request: dict[str, Any], await_answer: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        said, hung_up = b"", True
        try:
            self._control.send(json.dumps(request).encode())
            await_answer()
            said = self._control.recv(MESSAGE_BYTES)
        except (TimeoutError, MemoryError):  # no answer may be taken for that to another question
            hung_up = False
        except OSError:
            pass
        if not said:
            if hung_up:  # it is ending
                self._ended.poll(_END_SECONDS * 1000)
            how = self.ending()
            self.end()
            raise _refused(f"The process that does so {how}.")
        answer: dict[str, Any] = json.loads(said)
        self.lost = max(self.lost, answer["lost"])
        return answer


def _spawned(argv: Sequence[str], *sockets: socket.socket) -> int:
    for each in sockets:
        each.set_inheritable(True)
    silent = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)]
    try:
        return os.posix_spawn(
            argv[0],
            [*argv, *(str(each.fileno()) for each in sockets)],
            {**os.environ, "PYTHONPATH": _ROOT},
            file_actions=silent,
            setsid=True,  # what is sent to the agent's terminal or group is not sent to it
            setsigmask=(),
        )
    except OSError as error:
        raise _refused(f"The process that would cannot be started: {error.strerror}.") from error


def _did(pid: int) -> Sequence[bytes]:
    """How much of a processor and of memory a process has taken: it grows while that gets on."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
        return fields[7], fields[9], fields[11], fields[12]  # faults, user and system time
    return ()


def _parts(paths: Sequence[str]) -> Iterator[list[str]]:
    """The paths in pieces that a message holds."""
    part: list[str] = []
    size = 0
    for path in paths:
        length = len(json.dumps(path))
        if part and size + length > _PATHS_BYTES:
            yield part
            part, size = [], 0
        part.append(path)
        size += length
    if part:
        yield part


def _refused(why: str) -> AgentError:
    return AgentError(
        "Nobody is there to deny files that a `kill` rule names.",
        why,
        "Its last words are in the agent's log; the agent tries again as long as it runs.",
    )
