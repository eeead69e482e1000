"""The service that is measured: started and ended here, or found running; for `block`."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from harness.errors import NeedError, WorkloadError
from harness.linux import cgroup as cgroups
from harness.linux import listeners, ports, processes, routes
from harness.node import silence
from harness.wire.spec import Spawn

READY_SECONDS = 60.0
POLL_SECONDS = 0.05
SETTLE_SECONDS = 0.3  # a daemon's first process is gone by then
GRACE_SECONDS = 5.0
LOOPBACK = "127.0.0.1"
WORKLOADS = Path(__file__).resolve().parents[2] / "workloads"


class Service(Protocol):
    """What is measured, whoever started it; its processes are those of `cgroup`."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def url(self) -> str:
        """Where it answers."""
        ...

    @property
    def cgroup(self) -> Path:
        """What collectors observe and meters read."""
        ...

    def alive(self) -> bool:
        """Whether it still runs."""
        ...

    def check(self) -> None:
        """WorkloadError if it can no longer be measured."""
        ...

    def pids(self) -> list[int]:
        """Its processes."""
        ...

    def stop(self) -> object:
        """End what was started for it; safe to call again."""
        ...


def spawn(
    asked: Spawn,
    *,
    log: Path,
    cgroup: Path,
    cpus: Sequence[int] = (),
    tell: Callable[[str], None] = lambda _: None,
    attend: Callable[[], None] = lambda: None,
) -> SpawnedService:
    """Start it and wait until it answers; WorkloadError if it does not or cannot be started,
    NeedError if its port is taken, InputError if its URL leads to another machine.

    Connections of the process before may still have its port (TIME_WAIT). Most servers do not
    mind. One that does not start is started again once they are gone, a minute at most later:
    `tell` is told, and `attend` called meanwhile. {port} in the URL is a port that nobody has.
    """
    if "{port}" in asked.url:
        chosen = asked.url.replace("{port}", str(ports.unused()))
        return spawn(
            dataclasses.replace(asked, url=chosen),
            log=log, cgroup=cgroup, cpus=cpus, tell=tell, attend=attend,
        )  # fmt: skip
    port = port_of(asked.url) if asked.url else 0
    if asked.url:
        routes.require_here(asked.url)
        _require_free(port)
    is_kept = asked.url and ports.lingering(port)
    try:
        return _spawn(asked, port, log, cgroup, cpus)
    except WorkloadError:
        if not is_kept:
            raise
    ports.await_released(port, tell, attend)
    return _spawn(asked, port, log, cgroup, cpus)


def _spawn(asked: Spawn, port: int, log: Path, cgroup: Path, cpus: Sequence[int]) -> SpawnedService:
    announces = not asked.url
    try:
        process = processes.spawn(
            [filled(word, port) for word in asked.argv],
            log=log, cwd=Path(filled(asked.cwd, port)),
            env={name: filled(text, port) for name, text in asked.environment.items()},
            cgroup=cgroup, cpus=cpus,
        )  # fmt: skip
    except NeedError as error:
        raise WorkloadError(error.what, error.why, error.next_step) from error
    started = SpawnedService(asked.name, asked.url, process, log, cgroup)
    try:
        if announces:
            url = f"http://127.0.0.1:{started.told_port()}"
            return dataclasses.replace(started, url=url)
        started.await_answer()
    except BaseException:
        started.stop()
        raise
    return started


def _require_free(port: int) -> None:
    if (holder := ports.holder(port)) is not None:
        raise NeedError(
            f"Port {port} is taken: {holder} listens on it.",
            "What answers there would be measured instead of your program.",
            "Stop it, or start your program on another port and say so in --url.",
        )


def filled(word: str, port: int = 0) -> str:
    """With what only this machine knows: its Python, its copy of the services that ship."""
    word = word.replace("{port}", str(port)).replace("{host}", LOOPBACK)
    word = word.replace("{python}", sys.executable)
    return word.replace("{workloads}", str(WORKLOADS))


def port_of(url: str) -> int:
    """The port of a URL, the usual one where it names none."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def served_port(service: Service) -> int:
    """Its own port for its URL: another where a container's is published; 0: not known."""
    port = port_of(service.url)
    held = {each.port for each in listeners.held(service.pids())}
    if port in held or not held:
        return port
    return held.pop() if len(held) == 1 else 0


@dataclass(frozen=True)
class SpawnedService:
    """A service that was started here."""

    name: str
    url: str
    process: processes.Process
    log: Path
    cgroup: Path

    def alive(self) -> bool:
        """Whether its first process still runs."""
        return self.process.poll() is None

    def check(self) -> None:
        """WorkloadError if it has died."""
        if not self.alive():
            raise WorkloadError(
                f"The workload {self.name!r} died {_how(self.process.returncode)}.",
                _last_words(self.log),
                "Run its command by hand to see why; nothing measured so far is lost.",
            )

    def pids(self) -> list[int]:
        """Its processes."""
        return cgroups.processes(self.cgroup)

    def stop(self) -> int:
        """End it and what it has left behind, and wait for all of it; its exit code.

        SIGTERM goes to its first process, then to what is left, SIGKILL to what does not mind.
        """
        try:
            processes.terminate(self.process, GRACE_SECONDS)
            cgroups.terminate(self.cgroup, GRACE_SECONDS)
        finally:
            code = processes.stop(self.process, grace_seconds=0.0)
        return code

    def told_port(self) -> int:
        """The port that a service of ours prints when it is ready, or WorkloadError."""
        ready = processes.announced(self.process, READY_SECONDS)
        if ready is None or not isinstance(ready.get("port"), int):
            raise WorkloadError(
                f"The workload {self.name!r} did not say that it is ready.",
                _last_words(self.log),
                f"Its log is {self.log}.",
            )
        return int(ready["port"])

    def await_answer(self) -> None:
        """Wait until its URL answers, whatever it says; WorkloadError if it ends or never does."""
        asked = silence.Asked(self.url, READY_SECONDS)
        while why := asked.why():
            if not self.alive():
                raise WorkloadError(
                    f"{self.name!r} ended {_how(self.process.returncode)} before it answered "
                    f"at {self.url}.",
                    _last_words(self.log),
                    "Its command must stay in the foreground, as long as it serves.",
                )
            if asked.over:
                what, next_step = asked.told(self.name)
                raise WorkloadError(what, f"{why} {_last_words(self.log)}", next_step)
            time.sleep(POLL_SECONDS)
        time.sleep(SETTLE_SECONDS)
        if not self.alive():
            raise WorkloadError(
                f"{self.name!r} ended {_how(self.process.returncode)}, yet something answers "
                f"at {self.url}.",
                _last_words(self.log),
                "Its command must stay in the foreground, as long as it serves.",
            )


def _how(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        return f"(signal {-returncode})"
    return f"(exit code {returncode})"


def _last_words(log: Path, lines: int = 3) -> str:
    tail = processes.last_words(log, lines)
    return f"Its last words: {' / '.join(tail).rstrip('.')}." if tail else "It wrote nothing."
