"""Commands where the cluster of a test can be reached; for each of the stories."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.linux import processes
from harness.linux.processes import Completed
from tests.cluster.engine import Engine

HARNESS = str(Path(sys.executable).with_name("harness"))
SECONDS = 1800
_API = 'for p in /proc/[0-9]*; do [ "$(cat $p/comm)" = kube-apiserver ] && echo ${p#/proc/}; done'


@dataclass
class Reached:
    """The engine's network, and a state of the test's own in `folder`."""

    engine: Engine
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**self.engine.environment, "XDG_STATE_HOME": str(self.folder / "state")}

    @contextlib.contextmanager
    def still(self, node: str) -> Iterator[None]:
        """The API server on this node stands still: it takes connections, and answers nothing."""
        words = ("docker", "exec", node)
        pid = self.run(*words, "sh", "-c", _API).stdout.strip()
        self.run(*words, "kill", "-STOP", pid, check=True)
        try:
            yield
        finally:
            self.run(*words, "kill", "-CONT", pid, check=True)

    def run(self, *words: str, check: bool = False) -> Completed:
        """A command to its end, in there."""
        argv = self.engine.inside(words)
        return processes.run(argv, env=self.environment, check=check, timeout=SECONDS)
