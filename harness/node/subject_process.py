"""Somebody else's collector as a process, unmodified; `install` starts it for a trial.

It is told nothing but its command. What it leaves when it is ended is found, removed and told.
"""

from __future__ import annotations

import re
import shutil
import socket
import time
from collections import Counter
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.errors import CollectorError, StoreError, UnavailableError
from harness.linux import bpf_pins, bpf_programs, cgroup, ports, processes
from harness.linux.procfs import HOST
from harness.meters.memory import rss_bytes
from harness.node import (
    in_process,
    leavings,
    limited_log,
    loaded_programs,
    subject_count,
    subject_files,
    subject_source,
)
from harness.node.agent_process import GRACE_SECONDS
from harness.node.foreign_agent import ForeignAgent
from harness.node.limited_log import LimitedLog
from harness.node.service import port_of, served_port
from harness.node.testbed import Testbed
from harness.stack import client
from harness.wire.spec import CollectorSpec

READY_SECONDS = 30.0
PAGE_SECONDS = 2.0
WORDS_LINES = 3  # of its log, in an error
CALM_SECONDS = 1.0  # without another program, it has loaded what it loads
LOADING_SECONDS = 15.0
HOOKS = ("tracepoint", "raw_tracepoint", "perf_event", "cgroup_skb")  # types that are a hook's name


class SubjectProcess(ForeignAgent):
    """Started in a cgroup of its own, with a folder of its own for what it writes."""

    def __init__(
        self, spec: CollectorSpec, testbed: Testbed, folder: Path, named: Iterable[str] = ()
    ) -> None:
        """`named`: patterns of what all of the trial's collectors may leave behind."""
        assert spec.subject is not None
        own = testbed.machine.make(f"agent-{spec.name}")
        super().__init__(
            spec, target_cgroup=testbed.service.cgroup, own_cgroup=own,
            otlp_url=testbed.receiver.url, folder=folder,
            socket=testbed.machine.socket(spec.name), cpus=testbed.placement.collector,
        )  # fmt: skip
        self._subject, self._service, self._attend = spec.subject, testbed.service, testbed.attend
        self._mark = testbed.receiver.mark
        self._own, self._home = own, testbed.machine.scratch / f"home-{spec.name}"
        self._started, self._remarks = False, list[str]()
        self._before = frozenset[int]()
        self._seen = set[int]()
        self._most_bytes = 0  # resident at once, of all of its processes, until it was ready
        self._there, self._around = set[str](), set[str]()
        self._named = {*named, *spec.subject.leaves}

    def start(self) -> None:
        """Start it, without waiting."""
        self._before, self._there = bpf_programs.ids(), self._leavings()
        self._around = leavings.around()
        self._marked = self._mark()
        self._seen.clear()
        self._most_bytes = 0
        self._free = ports.unused()
        self._home.mkdir(exist_ok=True)
        filled = partial(subject_files.filled, values=self._placeholders())
        own = {name: filled(text) for name, text in self._subject.environment.items()}
        subject_files.lay(self._subject.files, self._home, self._placeholders())
        self._words = self._opened_log()
        self._begun = time.monotonic()
        try:
            self._process = processes.spawn(
                [filled(word) for word in self.spec.command],
                log=self._log,
                cwd=self._home,
                env={"HOME": str(self._home), "TMPDIR": str(self._home), **own},
                cgroup=self._own,
                cpus=self._cpus,
            )
        except BaseException:
            self._close_log()
            raise
        self._started = True

    def await_ready(self) -> None:
        """Wait until it says that it is ready; its programs are those it loaded meanwhile."""
        while not self._is_ready():
            if self._process.poll() is not None:
                raise UnavailableError(
                    f"Collector {self.name!r} ended before it was ready.",
                    self._said_in_short(),
                    f"Its log is {self._log}.",
                    collector=self.name,
                )
            if time.monotonic() - self._begun > READY_SECONDS:
                raise CollectorError(
                    f"Collector {self.name!r} did not say that it is ready.",
                    f"{self._awaited()} {self._said_in_short()}",
                    f"Its log is {self._log}.",
                    collector=self.name,
                )
            self._look()
            time.sleep(0.02)
        took = time.monotonic() - self._begun
        loaded = loaded_programs.since(
            self._before, self.pids, self._look,
            calm_seconds=CALM_SECONDS, limit_seconds=LOADING_SECONDS,
        )  # fmt: skip
        programs = [
            {"id": number, "hook": kind} if kind in HOOKS else {"id": number}
            for number, kind in sorted(loaded.items())
            if number in self._seen
        ]
        self._remark_others(loaded.keys() - self._seen)
        self._words.keep()
        hooks = sorted({str(each["hook"]) for each in programs if "hook" in each})
        told = subject_source.version(self._subject.source, self._said())
        own = Counter(kind for number, kind in loaded.items() if number in self._seen)
        self.ready = {
            "programs": programs, "hooks": hooks, "load_seconds": took, "version": told,
            "attached": dict(sorted(own.items())), "attach_peak_rss_bytes": self._most_bytes,
        }  # fmt: skip

    def stats(self) -> dict[str, Any]:
        """What it counted by its last word, if it counts aloud; CollectorError if it has ended."""
        if self._process.poll() is not None:
            raise CollectorError(
                f"Collector {self.name!r} ended while it was measured.",
                self._said_in_short(),
                f"Its log is {self._log}.",
                collector=self.name,
            )
        return self._counted()

    def flush(self) -> dict[str, Any]:
        """What its next word says, if it counts aloud; nothing if none comes.

        What it sends to a receiver is awaited; what a page of its own tells is of now.
        """
        if self.spec.signal:
            in_process.await_calm(self._mark, self.spec.export_seconds, self._attend)
        if not self._subject.events or self._subject.page:
            return self.stats()
        seconds = self.spec.export_seconds
        said = subject_count.await_word(self._subject, self._words, seconds, self._attend_living)
        return self.stats() if said else {}

    def remove(self) -> dict[str, Any]:
        """End it; `remarks` say what it left."""
        self.kill()
        return {"remarks": self._remarks}

    def kill(self) -> None:
        """End everything in its cgroup, and remove what it left; the kernel's programs too.

        CollectorError if programs stay loaded all the same: that would be measured as off. While
        something in its cgroup lives its log and its files stay, and the next call tries again.
        """
        if not self._started:
            return
        if killed := cgroup.terminate(self._own, GRACE_SECONDS):
            self._remarks.append(
                f"{self.name} did not end on SIGTERM within {GRACE_SECONDS:.0f} s: "
                f"{killed} of its processes were killed."
            )
        processes.stop(self._process)
        self._started = False
        self._end()
        self._require_unloaded()

    def _end(self) -> None:
        """What is left of it: its log is made short, what else it made goes."""
        try:
            self._close_log()
        finally:
            self._remove_leavings()

    def _opened_log(self) -> LimitedLog:
        """For what it will say; StoreError as of `spawn` if it cannot be written."""
        try:
            self._log.touch()
            return LimitedLog(self._log, self._log.stat().st_size)
        except OSError as error:
            raise StoreError(
                f"Cannot write {self._log}: {error.strerror}.",
                next_step="Make room there, or let it be written to.",
            ) from error

    def _close_log(self) -> None:
        """One that cannot be made short is long, and that is all."""
        try:
            cut = self._words.close()
        except OSError as error:
            self._remarks.append(f"The log of {self.name} was not made short: {error.strerror}.")
            return
        if cut:
            self._remarks.append(limited_log.told(self.name, cut, self._words.has_end))

    def _remove_leavings(self) -> None:
        gone = [*map(str, bpf_pins.remove(self.program_ids if self.ready else ()))]
        stay = list[str]()
        for path in sorted(self._leavings() - self._there):
            (gone if leavings.remove(Path(path)) else stay).append(path)
        for names, how in ((gone, "was removed"), (stay, "could not be removed")):
            if names:
                self._remarks.append(f"{self.name} left behind {', '.join(names)}: it {how}.")
        if strays := leavings.around() - self._around - leavings.named(self._named):
            self._remarks.append(leavings.told(self.name, strays))
        shutil.rmtree(self._home, ignore_errors=True)

    def _look(self) -> None:
        """For the controller, its memory, and the programs that it holds or attached by now.

        What nobody holds may be somebody else's: the kernel does not say who pinned or attached it.
        """
        self._attend()
        self._words.hold()
        pids = self.pids()
        self._most_bytes = max(self._most_bytes, rss_bytes(pids))
        for pid in pids:
            self._seen |= bpf_programs.held(pid) | bpf_programs.attached(pid)

    def _remark_others(self, programs: Collection[int]) -> None:
        if programs:
            self._remarks.append(
                f"BPF programs appeared while {self.name} loaded its own, and none of its "
                f"processes was seen to hold them: {', '.join(bpf_programs.described(programs))}. "
                "They are in no bill and were left alone."
            )

    def _placeholders(self) -> dict[str, str]:
        pids = self._service.pids()
        return {
            **subject_source.values(self._subject.source), **self._values,
            "pid": str(max(pids, key=_age_order, default=0)),
            # what a container publishes is another port, at which a proxy listens
            "port": str(served_port(self._service) or port_of(self._service.url)),
            "receiver": urlsplit(self._values["otlp"]).netloc, "free": str(self._free),
            "cgroup_id": str(self._service.cgroup.stat().st_ino), "folder": str(self._home),
        }  # fmt: skip

    def _is_ready(self) -> bool:
        """Whether its log, its port or its first data say so; else, once it has lived a bit."""
        if self._subject.ready_by == "port":
            return _listens(self._free)
        if self._subject.ready_by == "data":
            return self._mark() > self._marked
        if not self._subject.ready:
            return time.monotonic() - self._begun > CALM_SECONDS
        return bool(re.search(self._subject.ready, self._said(), re.MULTILINE))

    def _awaited(self) -> str:
        """What it did not do in time."""
        subject = self._subject
        if subject.ready_by == "port":
            return f"It does not listen on port {self._free}."
        if subject.ready_by == "data":
            return "Nothing of it came to the receiver."
        return f"No line of its log matches {subject.ready!r}."

    def _attend_living(self) -> bool:
        """Whether it lives, once the controller was heard."""
        self._attend()
        return self._process.poll() is None

    def _counted(self) -> dict[str, float]:
        """What it says that it saw, on its page or in its log, and lost; empty if nothing."""
        try:
            if self._subject.page:
                return subject_count.of_page(self._subject, self._paged())
            found = subject_count.of_log(self._subject, self._words, self._process.log_start)
            return {} if found is None else {"events": found}
        except ValueError as error:
            raise self._uncountable(error) from error

    def _paged(self) -> str:
        """What its page says now; nothing if it does not answer, which is told as no count."""
        try:
            url = subject_files.filled(self._subject.page, self._placeholders())
            return client.get(url, seconds=PAGE_SECONDS).decode(errors="replace")
        except client.FAILURES:
            return ""

    def _said(self) -> str:
        """What is kept of what it said since this start, which may not be the first in a trial."""
        return self._words.said()

    def _said_in_short(self) -> str:
        """Its first words and its last: why a program cannot start stands above its traceback."""
        lines = [line.strip() for line in self._said().splitlines() if line.strip()]
        if len(lines) > 2 * WORDS_LINES:
            lines[WORDS_LINES:-WORDS_LINES] = ["(...)"]
        return f"It said: {' '.join(lines)}" if lines else "It said nothing."

    def _leavings(self) -> set[str]:
        return leavings.named(self._subject.leaves)


def _age_order(pid: int) -> tuple[int, int]:
    """The newest process of a service is the one that works: a master starts its workers."""
    return HOST.started(pid) or 0, pid


def _listens(port: int) -> bool:
    """Whether somebody does, on loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
