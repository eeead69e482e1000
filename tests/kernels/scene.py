"""Where events are made, and what comes of them; used by `events`, `inside`, `page`, and others."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.linux import processes
from harness.wire import control
from tests.bpf.conftest import Receiver, Service
from tests.kernels import patience

EVENTS = 23


@dataclass(frozen=True)
class Scene:
    """A collector that is on, the cgroup it watches, and what it told."""

    call: Callable[[str], dict[str, Any]]
    ready: dict[str, Any]
    service: Service
    receiver: Receiver
    folder: Path

    def run(self, *argv: str) -> int:
        """Run a program in the cgroup to its end; its exit code."""
        process, path = self.service.start(*argv), self.service.path
        ended = patience.until(
            lambda: processes.await_end(process, 1.0), lambda: patience.ran(path)
        )
        assert ended, f"{argv} hangs: {self.log()}"
        return processes.stop(process)

    def python(self, code: str, *words: str) -> None:
        """Run a piece of Python there that imports little."""
        assert self.run(sys.executable, "-S", "-c", code, *words) == 0, self.log()

    def log(self) -> str:
        """What the programs there said."""
        return self.service.log.read_text()

    def flush(self) -> None:
        """Let all be told; a receiver that is as slow as the guest takes it the next time."""
        with contextlib.suppress(control.ControlError):
            self.call("flush")

    def counted(self, count: Callable[[], int], wanted: int = EVENTS) -> int:
        """What this says after a flush, when it is what is wanted, or no more comes."""
        found = 0

        def counted() -> bool:
            nonlocal found
            self.flush()
            found = count()
            return found >= wanted

        patience.until(counted, lambda: found)
        return found

    def told(self, name: str, **attributes: str) -> int:
        """How many records of this name and with these attributes the receiver has."""

        def count() -> int:
            records = [r for r in self.receiver.logs if r.event_name == name]
            found = map(self.receiver.attributes, records)
            return sum(attributes.items() <= each.items() for each in found)

        return self.counted(count)

    def peers(self) -> int:
        """How many connects and datagrams the receiver knows of."""
        logs = self.receiver.logs
        return self.counted(
            lambda: sum(int(self.receiver.attributes(r).get("guard.count", 0)) for r in logs)
        )
