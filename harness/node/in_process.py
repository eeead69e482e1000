"""A collector that runs within the service, which is started with it; `install` and `twin` use it.

Its CPU and its memory are the service's: what they are is told by a process without it beside.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.errors import CollectorError
from harness.node import subject_files, subject_source
from harness.node.foreign_agent import ForeignAgent
from harness.node.testbed import Testbed
from harness.wire.spec import CollectorSpec, Spawn, TrialSpec
from harness.wire.subject import Subject

CALM = 1.5  # its exports: so long nothing came, and all has come
LIMIT = 4.0  # its exports, at most
_JOINED = {"PYTHONPATH": ":", "JAVA_TOOL_OPTIONS": " "}  # variables that hold several


class InProcessAgent(ForeignAgent):
    """What is known of it, for who asks of an agent; it has no process of its own."""

    def __init__(self, spec: CollectorSpec, testbed: Testbed, folder: Path) -> None:
        super().__init__(
            spec, target_cgroup=testbed.service.cgroup, own_cgroup=None, otlp_url="",
            folder=folder, socket=testbed.machine.socket(spec.name),
        )  # fmt: skip
        self._mark, self._attend = testbed.receiver.mark, testbed.attend

    @property
    def cgroups(self) -> list[Path]:
        """None: its CPU is in the service's."""
        return []

    def pids(self) -> list[int]:
        """None of its own."""
        return []

    def start(self) -> None:
        """Nothing: it came with the service."""

    def await_ready(self) -> None:
        """The service answers, so that it is there."""
        assert self.spec.subject is not None
        told = subject_source.version(self.spec.subject.source)
        self.ready = {"programs": [], "version": told}

    def flush(self) -> dict[str, Any]:
        """It cannot be told to: nothing drives the service now, and what it sends is awaited."""
        if self.spec.signal:
            await_calm(self._mark, self.spec.export_seconds, self._attend)
        return {}

    def kill(self) -> None:
        """It ends with the service."""


def await_calm(mark: Callable[[], int], every: float, attend: Callable[[], None]) -> None:
    """Wait until nothing more arrives of what is sent `every` so many seconds."""
    begun = calm = time.monotonic()
    known = mark()
    while time.monotonic() - calm < CALM * every and time.monotonic() - begun < LIMIT * every:
        if (now := mark()) != known:
            known, calm = now, time.monotonic()
        attend()
        time.sleep(0.1)


def of(spec: TrialSpec) -> CollectorSpec | None:
    """The trial's collector that runs within the service; one at most."""
    return next((each for each in spec.candidates if each.subject and each.subject.is_within), None)


def instrumented(asked: Spawn, collector: CollectorSpec, otlp_url: str, folder: Path) -> Spawn:
    """The service's command with the collector in it; CollectorError if that is not there.

    `folder` is for what the collector writes; the definition's own files are laid into it.
    """
    assert collector.subject is not None
    subject = collector.subject
    values = {
        **subject_source.values(subject.source),
        "otlp": otlp_url, "service": asked.name, "instance": collector.name,
        "folder": str(folder), "python": sys.executable,
    }  # fmt: skip
    _require_there(collector.name, subject, Path(values["home"]))
    subject_files.lay(subject.files, folder, values)
    fill = partial(subject_files.filled, values=values)
    environment = dict(asked.environment)
    for name, text in subject.environment.items():
        own = environment.get(name) or os.environ.get(name, "")  # which the other process has, too
        between = _JOINED.get(name)
        environment[name] = f"{fill(text)}{between}{own}" if own and between else fill(text)
    wrap: Sequence[str] = [fill(word) for word in subject.wrap]
    return replace(asked, argv=(*wrap, *asked.argv), environment=environment)


def _require_there(name: str, subject: Subject, home: Path) -> None:
    if subject.source.way in ("pypi", "maven") and not home.is_dir():
        raise CollectorError(
            f"Collector {name!r} is gone: {home} was removed.",
            "It was got before the first trial.",
            "Resume the run: it is got again.",
            collector=name,
        )
