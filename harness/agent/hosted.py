"""One collector of an agent: commands in, telemetry into the outbox; used by runtime.

Commands come from the thread of its control socket, draining is a thread of its own. What fails in
draining is told, counted and tried again.
"""

from __future__ import annotations

import logging
import threading
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness.agent import cgroup, footprint
from harness.agent.attempts import Attempts
from harness.agent.collector import Collector
from harness.agent.drainer import Drainer
from harness.agent.footprint import Rest, Share
from harness.agent.loaded import Loaded
from harness.agent.origin import Origin
from harness.agent.outbox import Outbox
from harness.agent.telemetry import Counts, Metric
from harness.wire.control import Server

_READ_AT_ONCE = frozenset({"condemned", "images"})  # rings that have a thread of their own
_PATIENCE_SECONDS = 0.2  # a client that is connected and silent is not waited for
_HELD_UP = (
    "%s stays loaded, and sees nothing, until this process ends. One of its threads is held up by "
    "a file system that does not answer."
)
_log = logging.getLogger("harness.agent")


class Hosted:
    """A loaded collector, with its control socket and the thread that drains it.

    `share` is the CPU time of its own threads; `alone` in its process, it is told all of it.
    `{name}` in the paths and names of `options` is the collector's.
    """

    def __init__(
        self,
        create: Callable[[], Collector],
        options: Namespace,
        outbox: Outbox,
        sending: Attempts,
        *,
        alone: bool,
    ) -> None:
        self.share, self.attempts = Share(), Attempts()
        self._outbox, self._alone = outbox, alone
        self._sending = sending  # of all collectors of the process
        with self.share.growing():
            self._collector = create()
            self._loaded = Loaded(self._collector, options)
        self.name = self._collector.name
        self._origin = Origin(
            self.name,
            options.service_name,
            partial(cgroup.server_pid, options.cgroup),
            options.instance_id.replace("{name}", self.name),
        )
        self._tally = outbox.tally(self._origin)
        self._marks = {"harness.collector": self.name, "harness.service": options.service_name}
        self._control = Path(str(options.control).replace("{name}", self.name))
        self._drain_seconds, self._interval_seconds = options.drain, options.interval
        self._closed = self.given_up = False
        self._rest = Rest()
        self._collecting = threading.Lock()

    def ready(self, *, off: bool) -> dict[str, Any]:
        """Attach once, which proves that it can, and tell; with `off` detach again."""
        with self.share.growing():
            return self._loaded.ready(off=off)

    def on(self, _: dict[str, Any] | None = None) -> dict[str, Any]:
        """Attach; `at_ns` is when all of it ran. Nothing changes if it is on."""
        return self._loaded.on()

    def off(self, _: dict[str, Any] | None = None) -> dict[str, Any]:
        """Detach; `at_ns` is when nothing of it ran any more. Nothing changes if it is off."""
        return self._loaded.off()

    def stats(self, _: dict[str, Any] | None = None) -> dict[str, Any]:
        """Counters so far.

        `lost` includes what no receiver will take, `waiting` is what none took yet, `dropped` what
        of the telemetry is gone, by signal and reason; `reattached` is how often the cgroup was
        made anew and taken again, `errors` how often a step failed that is tried again, `failures`
        these by their kinds.
        """
        counts, failures = self._collector.counts(), self._failures()
        return {
            **counts.more,
            "events": counts.events,
            "lost": counts.lost + self._tally.lost,
            "waiting": self._tally.waiting,
            "exported": self._tally.exported,
            "spans": self._tally.spans,
            "dropped": self._tally.told(),
            "reattached": self._loaded.reattached,
            "errors": failures.total(),
            "failures": dict(failures),
            "map_bytes": self._loaded.object.map_bytes(),
            "programs": [
                {
                    "id": info.id,
                    "name": info.name,
                    "run_time_ns": info.run_time_ns,
                    "run_cnt": info.run_cnt,
                    "recursion_misses": info.recursion_misses,
                }
                for info in (program.info() for program in self._loaded.object.programs)
            ],
        }

    def flush(self, _: dict[str, Any] | None = None) -> dict[str, Any]:
        """Export everything up to now; answers after the receiver acknowledged it."""
        self._collect(metrics=True)
        self._outbox.send(now=True)
        return self.stats()

    def stop(self, _: dict[str, Any] | None = None) -> dict[str, Any]:
        """Detach, export the rest, unload; a lost or slow receiver does not hold it up.

        `unsent` is what it did not take, and nobody will; `dropped` is that and what was before.
        The process ends with the last of its collectors.
        """
        seconds = self.halt()
        with self._outbox.ending():
            self.attempts(partial(self._outbox.send, now=True))
            unsent = self.give_up()
        self._server.stop()
        return {"detach_seconds": seconds, "unsent": unsent, "dropped": self._tally.told()}

    def halt(self) -> float:
        """Detach, and put what was seen into the outbox; how many seconds detaching took."""
        seconds: float = self.off()["seconds"]
        self.attempts(partial(self._collect, metrics=True))
        return seconds

    def give_up(self) -> int:
        """Let nothing more be sent, and tell what was lost; how many records by that."""
        self.given_up = True
        unsent = self._outbox.give_up(self._origin)
        if unsent:
            _log.warning("%d spans, log records and profiles were taken by no receiver.", unsent)
        gone = {of: number for of, number in self._tally.told().items() if of != "metrics"}
        failures = self._failures()
        if gone or failures:
            _log.warning("%s dropped in all %s; what failed: %s.", self.name, gone, dict(failures))
        return unsent

    def serve(self, ended: Callable[[], None]) -> None:
        """Answer and drain, each in a thread, from now on; `ended` is called after `stop`."""
        commands = (self.on, self.off, self.stats, self.flush, self.stop)
        self._server = Server(self._control, {each.__name__: each for each in commands})
        self._drainer = Drainer(
            self.name,
            [ring.fd for ring in self._loaded.object.rings if ring.name not in _READ_AT_ONCE],
            lambda: self.attempts(self._loaded.follow),
            lambda metrics: self.attempts(partial(self._collect, metrics=metrics)),
            self._drain_seconds,
            self._interval_seconds,
        )
        self._answering = threading.Thread(
            target=self._answer, args=(ended,), name=f"control {self.name}", daemon=True
        )
        self.share.add(self._drainer.start())
        self._answering.start()
        self.share.add(self._answering.native_id or 0)

    def end(self) -> None:
        """Answer no more; with a client that stays, the rest goes with the process."""
        if self.given_up and not self._answering.is_alive():
            return  # stopped before: another agent may answer at its path by now
        self._server.stop()
        self._answering.join(_PATIENCE_SECONDS)
        self._control.unlink(missing_ok=True)

    def _answer(self, ended: Callable[[], None]) -> None:
        """Serve until `stop` or `end`, then unload."""
        self._server.serve()
        self._drainer.close()
        with self._collecting:
            self._closed = True
            if self._collector.close():
                self._loaded.close()
            else:  # what a thread still uses must not be freed: others live in this process
                _log.warning(_HELD_UP, self.name)
        ended()

    def _collect(self, *, metrics: bool) -> None:
        with self._collecting:
            if self._closed:
                return
            telemetry = self._collector.collect(metrics=metrics)
            own: Sequence[Metric] = ()
            try:
                own = self._footprint(telemetry.counts) if metrics else ()
            finally:  # what was drained is nowhere else
                self._outbox.put(self._origin, telemetry, own)
                if telemetry.then:
                    telemetry.then()

    def _failures(self) -> Counter[str]:
        """Of draining, and of sending what all collectors of the process drained."""
        # copies: other threads count on meanwhile
        return Counter(self.attempts.failures) + Counter(self._sending.failures)

    def _footprint(self, counted: Counts | None) -> Sequence[Metric]:
        counts = counted or self._collector.counts()
        own = footprint.metrics(
            counts.events,
            counts.lost + self._tally.lost,
            [program.info() for program in self._loaded.object.programs],
            self._marks,
            dict(self._tally.dropped),
            self._failures(),
        )
        if not self._alone:
            return [footprint.cpu(self.share, self._marks), *own]
        return [footprint.cpu(self._rest, self._marks), footprint.memory(self._marks), *own]
