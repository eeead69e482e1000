"""Commands where the cluster of a test can be reached; for each of the stories."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from harness.linux import processes
from harness.linux.processes import Completed
from tests.cluster.engine import Engine

HARNESS = str(Path(sys.executable).with_name("harness"))
SECONDS = 1800


@dataclass
class Reached:
    """The engine's network, and a state of the test's own in `folder`."""

    engine: Engine
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**self.engine.environment, "XDG_STATE_HOME": str(self.folder / "state")}

    def run(self, *words: str, check: bool = False) -> Completed:
        """A command to its end, in there."""
        argv = self.engine.inside(words)
        return processes.run(argv, env=self.environment, check=check, timeout=SECONDS)
