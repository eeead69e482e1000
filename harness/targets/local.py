"""This machine as a target: the node is a child of this process."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import NeedError
from harness.linux import processes
from harness.targets.base import Tell, answer, arguments
from harness.targets.channel import ProcessChannel

ANSWER_SECONDS = 660.0


class Local:
    """Nothing has to be installed, and nothing is told over a network."""

    name = "local"

    def __init__(self) -> None:
        # a node that takes the place of a lost one is started by a process that is out of the way
        self._cpus = sorted(os.sched_getaffinity(0))

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
        return LocalChannel(self._cpus)

    def ask(self, question: str, *about: Any) -> Any:
        """What a node answers."""
        argv = [sys.executable, "-m", "harness.node", *arguments(question, about)]
        return answer(question, processes.run(argv, check=False, timeout=ANSWER_SECONDS))

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
    """What the node says on stderr is in a file without a name, which goes with both processes."""

    def __init__(self, cpus: Sequence[int]) -> None:
        self._said, name = tempfile.mkstemp(prefix="harness-node-")
        try:
            super().__init__([sys.executable, "-m", "harness.node"], Path(name), cpus)
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
