"""This machine as a target: the node is a child of this process."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.errors import NeedError
from harness.linux import processes
from harness.targets.base import Tell, answer
from harness.targets.channel import ProcessChannel

ANSWER_SECONDS = 660.0


class Local:
    """Nothing has to be installed, and nothing is told over a network."""

    name = "local"

    def check(self) -> None:
        """NeedError without root: the rest is the node's to say."""
        if os.geteuid() != 0:
            raise NeedError(
                "Root is needed.",
                "The kernel lets only root load BPF programs and make cgroups.",
                "Run the command again with sudo.",
            )

    def prepare(self, tell: Tell) -> None:
        """Nothing."""

    def connect(self) -> LocalChannel:
        """A node process, which ends in order when this one dies."""
        return LocalChannel()

    def ask(self, question: str) -> Any:
        """What a node answers."""
        argv = [sys.executable, "-m", "harness.node", question]
        return answer(processes.run(argv, check=False, timeout=ANSWER_SECONDS))

    @contextmanager
    def out_of_the_way(self, cpus: Sequence[int]) -> Iterator[None]:
        """Run only on these CPUs, as the node does."""
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cpus)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)

    def remove(self) -> None:
        """Nothing."""


class LocalChannel(ProcessChannel):
    """Keeps what the node says on stderr in a file of its own, for as long as it is connected."""

    def __init__(self) -> None:
        descriptor, name = tempfile.mkstemp(prefix="harness-node-", suffix=".log")
        os.close(descriptor)
        self._said = ""
        super().__init__([sys.executable, "-m", "harness.node"], Path(name))

    def close(self) -> None:
        """Hang up, and remove the file."""
        super().close()
        self._said = super().last_words()
        with suppress(OSError):
            self._log.unlink()

    def last_words(self) -> str:
        """The end of what it said on stderr."""
        return self._said or super().last_words()
