"""Who opens a file that `guard` watches; for test_guard_waiting and test_guard_faults."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.linux import processes
from tests.waiting import until

FOREVER_SECONDS = 60  # nobody waits for a whole second; a test says so when it is sure
OPENERS = 5


@dataclass
class Watched:
    """A file, those who open it, and an agent that kills for it."""

    secret: Path
    service: Any
    folder: Path
    agent: Any = None

    def answerer(self) -> int:
        """The process that answers, a child of the agent."""
        return next(iter(children(self.agent.process.pid)))

    def strangers(self) -> list[processes.Process]:
        return [
            processes.spawn(["/bin/cat", str(self.secret)], log=self.folder / "strangers.log")
            for _ in range(OPENERS)
        ]

    def thief(self) -> processes.Process:
        return self.service.start("/bin/cat", str(self.secret))

    def open_by_all(self) -> None:
        """Strangers read it, and a process of the cgroup is let go or killed; nobody waits."""
        thief = self.thief()
        assert [ended(each) for each in self.strangers()] == [0] * OPENERS
        assert ended(thief) in (0, -signal.SIGKILL)

    def is_enforced(self) -> bool:
        """Whether a thief is killed, within some seconds."""
        return until(lambda: ended(self.thief()) == -signal.SIGKILL)


def ended(process: processes.Process) -> int:
    """Its exit code; TimeoutExpired fails the test if it waits for ever."""
    try:
        return process.wait(FOREVER_SECONDS)
    finally:
        processes.stop(process)


def children(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in lists for child in each.read_text().split()]


def policy(folder: Path, secret: Path, action: str = "kill") -> tuple[str, ...]:
    file = folder / "policy.toml"
    file.write_text(f'[[rules]]\nevent = "open"\nmatch = "{secret}"\naction = "{action}"\n')
    return "--policy", str(file), "--open-hook", "fanotify"


@contextlib.contextmanager
def stopped(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
