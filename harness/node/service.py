"""A started workload: whether it lives and answers, and how it ended; made by `workloads`."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from harness.errors import WorkloadError
from harness.linux import processes

READY_SECONDS = 60.0
POLL_SECONDS = 0.05
SETTLE_SECONDS = 0.3  # a daemon's first process is gone by then


@dataclass(frozen=True)
class RunningWorkload:
    """A started workload; its processes are those of `cgroup`, where it has one."""

    name: str
    url: str
    process: processes.Process
    log: Path
    cgroup: Path | None = None

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
        """Its processes, as far as they are known."""
        if self.cgroup is None:
            return [self.process.pid] if self.alive() else []
        return [int(pid) for pid in (self.cgroup / "cgroup.procs").read_text().split()]

    def stop(self) -> int:
        """End it, and what it left in its cgroup; its exit code. Safe to call again."""
        code = processes.stop(self.process)
        if self.cgroup is not None:
            with contextlib.suppress(OSError):  # one that left its session
                for pid in self.pids():
                    os.kill(pid, signal.SIGKILL)
        return code

    def told_port(self) -> int:
        """The port that a workload of ours prints when it is ready, or WorkloadError."""
        ready = processes.announced(self.process, READY_SECONDS)
        if ready is None or not isinstance(ready.get("port"), int):
            raise WorkloadError(
                f"The workload {self.name!r} did not say that it is ready.",
                _last_words(self.log),
            )
        return int(ready["port"])

    def await_answer(self) -> None:
        """Wait until its URL answers, whatever it says; WorkloadError if it ends or never does."""
        deadline = time.monotonic() + READY_SECONDS
        while not _answers(self.url):
            if not self.alive():
                raise WorkloadError(
                    f"{self.name!r} ended {_how(self.process.returncode)} before it answered "
                    f"at {self.url}.",
                    _last_words(self.log),
                    "Its command must stay in the foreground, as long as it serves.",
                )
            if time.monotonic() > deadline:
                raise WorkloadError(
                    f"{self.name!r} runs, but nothing answers at {self.url}.",
                    _last_words(self.log),
                    "Check --url: address, port and path.",
                )
            time.sleep(POLL_SECONDS)
        time.sleep(SETTLE_SECONDS)
        if not self.alive():
            raise WorkloadError(
                f"{self.name!r} ended {_how(self.process.returncode)}, yet something answers "
                f"at {self.url}.",
                _last_words(self.log),
                "Its command must stay in the foreground, as long as it serves.",
            )


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=2)
    try:
        connection.request("GET", parts.path or "/")
        connection.getresponse()
    except ssl.SSLCertVerificationError:
        return True  # somebody is there; whom to trust is the locustfile's business
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _how(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        return f"(signal {-returncode})"
    return f"(exit code {returncode})"


def _last_words(log: Path, lines: int = 3) -> str:
    tail = log.read_text(errors="replace").splitlines()[-lines:]
    return f"Its last words: {' / '.join(tail)}" if tail else "It wrote nothing."
