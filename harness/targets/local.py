"""This machine as a target: the node is a child of this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from harness.errors import NeedError
from harness.linux import processes
from harness.targets.base import OnMachine, Tell, answer, arguments
from harness.targets.channel import SaidChannel
from harness.wire.spec import Found, Spawn

ANSWER_SECONDS = 660.0


class Local(OnMachine):
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

    def check_service(self, asked: Spawn | Found) -> None:
        """InputError too if what is started would be asked for on another machine."""
        super().check_service(asked)
        if isinstance(asked, Spawn) and asked.url:
            self.ask("require_here", asked.url)

    def prepare(self, tell: Tell) -> None:
        """Nothing."""

    def connect(self) -> SaidChannel:
        """A node process, which ends in order when this one dies."""
        return SaidChannel([sys.executable, "-m", "harness.node"], self._cpus)

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
