"""A collector that runs within the service, which is started with it; `install` and `twin` use it.

Its CPU and its memory are the service's: what they are is told by a process without it beside.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.errors import CollectorError
from harness.linux import processes
from harness.node import service, subject_files, subject_source
from harness.node.foreign_agent import ForeignAgent
from harness.node.testbed import Testbed
from harness.wire.spec import CollectorSpec, Spawn, TrialSpec
from harness.wire.subject import Subject

CALM = 1.5  # its exports: so long nothing came, and all has come
LIMIT = 4.0  # its exports, at most
BUILD_SECONDS = 600.0
# variables that hold several
_JOINED = {"PYTHONPATH": ":", "JAVA_TOOL_OPTIONS": " ", "NODE_PATH": ":", "NODE_OPTIONS": " "}


class InProcessAgent(ForeignAgent):
    """What is known of it, for who asks of an agent; it has no process of its own."""

    def __init__(self, spec: CollectorSpec, testbed: Testbed, folder: Path) -> None:
        super().__init__(
            spec, target_cgroup=testbed.service.cgroup, own_cgroup=None, otlp_url="",
            folder=folder, socket=testbed.machine.socket(spec.name),
        )  # fmt: skip
        # into a file it may write by a clock of its own, or at the end alone
        in_files = spec.subject is not None and spec.subject.profile
        self._sends = not in_files or "interval" in spec.options
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
        if self.spec.signal and self._sends:
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


def instrumented(
    asked: Spawn,
    collector: CollectorSpec,
    otlp_url: str,
    folder: Path,
    attend: Callable[[], None] = lambda: None,
) -> Spawn:
    """The service's command with the collector in it; CollectorError if that cannot be.

    `folder` is for what the collector writes; the definition's own files are laid into it. Where
    the collector is compiled into the service, that is done now.
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
    argv = asked.argv
    if subject.build:
        words = [fill(word) for word in subject.build]
        _build(collector.name, words, Path(service.filled(asked.cwd)), folder, attend)
        argv = (fill(subject.program), *argv[1:])
    return replace(asked, argv=(*wrap, *argv), environment=environment)


def _build(
    name: str, words: Sequence[str], source: Path, folder: Path, attend: Callable[[], None]
) -> None:
    """Compile the service anew with the collector, from a copy of its source."""
    copy, log = folder / "source", folder / "build.log"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns(".output", "__pycache__"))
    process, begun = processes.spawn(words, log=log, cwd=copy), time.monotonic()
    try:
        while process.poll() is None and time.monotonic() - begun < BUILD_SECONDS:
            attend()
            time.sleep(0.05)
    finally:
        processes.stop(process)
    if process.returncode:
        said = " ".join(log.read_text(errors="replace").splitlines()[-3:])
        raise CollectorError(
            f"Collector {name!r} cannot be compiled into the service: `{' '.join(words)}` failed.",
            f"It said: {said}" if said else "It said nothing.",
            f"Try it by hand in {source}.",
            collector=name,
        )


def _require_there(name: str, subject: Subject, home: Path) -> None:
    if subject.source.is_fetched and not home.is_dir():
        raise CollectorError(
            f"Collector {name!r} is gone: {home} was removed.",
            "It was got before the first trial.",
            "Resume the run: it is got again.",
            collector=name,
        )
