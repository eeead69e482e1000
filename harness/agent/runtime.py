"""Runs one collector: load, ready line, control server, timer; used by `__main__`.

Calls come from two threads, the control server's and the timer's. What fails in the timer is told,
counted and tried again: an agent ends when it is told to.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics.export import Metric

from harness.agent import cgroup, footprint
from harness.agent.collector import Attachment, Collector, Scaling
from harness.agent.errors import AgentError
from harness.agent.hooks import hook_type
from harness.agent.libbpf import Object, Program
from harness.agent.otlp import Exporter
from harness.agent.outbox import Outbox
from harness.agent.telemetry import Counts
from harness.wire.control import Server
from harness.wire.cpus import MANY_CPUS

_ENDING = {signal.SIGTERM, signal.SIGINT}
_FOLLOW_SECONDS = 1.0  # how long a cgroup that was made anew may go unnoticed
_log = logging.getLogger("harness.agent")


class Runtime:
    """One loaded collector with its exporter, switched by commands and drained by a timer."""

    def __init__(self, collector: Collector, options: Namespace) -> None:
        self._scope = cgroup.Scope(options.cgroup)
        began = time.monotonic()
        self._collector = collector
        self._object = Object(options.bpf / f"{collector.name}.bpf.o", options.btf)
        collector.configure(self._object)
        self._object.load()
        collector.start(self._object)
        collector.aim(self._object, self._scope.directory)
        self.load_seconds = time.monotonic() - began
        find_pid = partial(cgroup.server_pid, options.cgroup)
        self._outbox = Outbox(
            Exporter(
                options.otlp, collector.name, options.service_name, find_pid, options.instance_id
            )
        )
        self._marks = {
            "harness.collector": collector.name,
            "harness.service": options.service_name,
        }
        self._drain_seconds, self._interval_seconds = options.drain, options.interval
        self._attachments: Sequence[Attachment] = ()
        self._wanted, self._aimed = False, True
        self._errors = self._reattached = 0
        self._last_error = ""
        self._switching, self._collecting = threading.Lock(), threading.Lock()

    def ready(self, *, off: bool) -> dict[str, Any]:
        """Attach once, which proves that it can, and tell; with `off` detach again."""
        began = time.monotonic()
        self.on()
        attach_seconds = time.monotonic() - began
        hooks = [each.hook for each in self._attachments]
        if off:
            self.off()
        scaling = isinstance(self._collector, Scaling) and self._collector.entries(MANY_CPUS)
        return {
            "ready": True,
            "name": self._collector.name,
            "hooks": hooks,
            "programs": [_told(program) for program in self._object.programs],
            "load_seconds": self.load_seconds,
            "attach_seconds": attach_seconds,
            "entries_on_many_cpus": scaling or {},
        }

    def on(self, _: dict[str, Any] | None = None) -> dict[str, Any]:
        """Attach; `at_ns` is when all of it ran. Nothing changes if it is on."""
        with self._switching:
            began = time.monotonic_ns()
            self._scope.require()
            self._wanted = True
            try:
                self._follow()
            except Exception:
                self._wanted = False
                raise
            return _switched(began)

    def off(self, _: dict[str, Any] | None = None) -> dict[str, Any]:
        """Detach; `at_ns` is when nothing of it ran any more. Nothing changes if it is off."""
        with self._switching:
            began = time.monotonic_ns()
            self._wanted = False
            self._detach()
            return _switched(began)

    def stats(self, _: dict[str, Any] | None = None) -> dict[str, Any]:
        """Counters so far.

        `lost` includes what no receiver will take, `waiting` is what none took yet; `reattached` is
        how often the cgroup was made anew and taken again, `errors` how often a step failed that is
        tried again.
        """
        counts = self._collector.counts()
        return {
            **counts.more,
            "events": counts.events,
            "lost": counts.lost + self._outbox.lost,
            "waiting": self._outbox.waiting,
            "exported": self._outbox.exported,
            "spans": self._outbox.spans,
            "reattached": self._reattached,
            "errors": self._errors,
            "map_bytes": self._object.map_bytes(),
            "programs": [
                {
                    "id": info.id,
                    "name": info.name,
                    "run_time_ns": info.run_time_ns,
                    "run_cnt": info.run_cnt,
                }
                for info in (program.info() for program in self._object.programs)
            ],
        }

    def flush(self, _: dict[str, Any] | None = None) -> dict[str, Any]:
        """Export everything up to now; answers after the receiver acknowledged it."""
        self._export(metrics=True)
        return self.stats()

    def stop(self, _: dict[str, Any] | None = None) -> dict[str, Any]:
        """Detach, export the rest, and let `serve` return; a lost receiver does not hold it up.

        `unsent` is what it did not take, and nobody will.
        """
        seconds = self.off()["seconds"]
        self._attempt(partial(self._export, metrics=True))
        with self._collecting:  # the timer may be sending what waits
            unsent = self._outbox.give_up()
        if unsent:
            _log.warning("%d spans and log records were taken by no receiver.", unsent)
        os.kill(os.getpid(), signal.SIGTERM)
        return {"detach_seconds": seconds, "unsent": unsent}

    def serve(self, control: Path, ready: Callable[[], None]) -> None:
        """Answer commands and export on time until `stop` or a signal; see `block_signals`.

        `ready` is called when the control socket answers.
        """
        commands = (self.on, self.off, self.stats, self.flush, self.stop)
        server = Server(control, {each.__name__: each for each in commands})
        thread = threading.Thread(target=server.serve, name="control", daemon=True)
        thread.start()
        ready()
        self._keep_time()
        if self._wanted:
            self.stop()
        server.stop()
        thread.join(0.2)  # a client that is connected and silent is not waited for
        if not thread.is_alive():
            self._collector.close()
            self._object.close()
            self._scope.close()
        control.unlink(missing_ok=True)

    def _keep_time(self) -> None:
        drain_due = time.monotonic() + self._drain_seconds
        metrics_due = time.monotonic() + self._interval_seconds
        while signal.sigtimedwait(_ENDING, min(_FOLLOW_SECONDS, _until(drain_due))) is None:
            self._attempt(self._notice)
            if _until(drain_due):
                continue
            due = time.monotonic() >= metrics_due
            if due:
                metrics_due += self._interval_seconds
            self._attempt(partial(self._export, metrics=due))  # metrics catch up later
            drain_due = time.monotonic() + self._drain_seconds

    def _attempt(self, step: Callable[[], object]) -> None:
        """Outlive whatever goes wrong in a step that is tried again; it is told and counted."""
        try:
            step()
        except Exception as error:
            foreseen = isinstance(error, AgentError)
            self._errors += not foreseen
            with contextlib.suppress(Exception):  # no memory, or a full disk
                said = f"{type(error).__name__}: {error}"
                if foreseen or said != self._last_error:
                    _log.warning("%s", error, exc_info=None if foreseen else error)
                self._last_error = said

    def _notice(self) -> None:
        with self._switching:
            self._follow()

    def _follow(self) -> None:
        """Take the cgroup that is there now, and be attached to it if that is wanted.

        Where none is, there is nothing to see, and it may come back.
        """
        if self._scope.renew():
            self._detach()
            self._aimed = False
        if not self._aimed:
            self._collector.aim(self._object, self._scope.directory)
            self._aimed = True
            self._reattached += 1
            _log.warning("The cgroup %s was made anew: it is traced again.", self._scope.path)
        if self._wanted and not self._attachments and not self._scope.gone:
            self._attachments = self._collector.attach(self._object)

    def _detach(self) -> None:
        for each in self._attachments:
            each.destroy()
        self._attachments = ()

    def _export(self, *, metrics: bool) -> None:
        with self._collecting:
            telemetry = self._collector.collect(metrics=metrics)
            own = self._footprint(telemetry.counts) if metrics else ()
            self._outbox.send(telemetry, own)

    def _footprint(self, counted: Counts | None) -> Sequence[Metric]:
        counts = counted or self._collector.counts()
        programs = [program.info() for program in self._object.programs]
        lost = counts.lost + self._outbox.lost
        return footprint.metrics(counts.events, lost, programs, self._marks)


def block_signals() -> None:
    """Let SIGTERM and SIGINT wait for `serve`; call it before any thread starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)


def _told(program: Program) -> dict[str, Any]:
    info = program.info()
    hook = hook_type(program.section)
    return {"id": info.id, "name": info.name, "type": info.type, "hook": hook}


def _until(when: float) -> float:
    return max(0.0, when - time.monotonic())


def _switched(began_ns: int) -> dict[str, Any]:
    now = time.monotonic_ns()
    return {"at_ns": now, "seconds": (now - began_ns) / 1e9}
