"""The process of an agent: its collectors, the thread that sends, and its end; used by `__main__`.

An agent ends when it is told to: by `stop` on the control socket of each collector, or by a signal.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from harness.agent import cgroup, footprint
from harness.agent.attempts import Attempts
from harness.agent.collector import Collector
from harness.agent.drainer import turn
from harness.agent.errors import AgentError
from harness.agent.footprint import Rest
from harness.agent.hosted import Hosted
from harness.agent.library import share_heap
from harness.agent.origin import Origin
from harness.agent.otlp import Exporter
from harness.agent.outbox import Outbox
from harness.agent.telemetry import Telemetry

_ENDING = {signal.SIGTERM, signal.SIGINT}
_GATHER_SECONDS = 0.05  # what is drained at the same time, or soon after, is sent in one request
_PATIENCE_SECONDS = 0.2  # with a receiver that does not answer, at the end


class Runtime:
    """The collectors of one process, which send together.

    `creates` make them. Each has its control socket and its draining thread. What is of none of
    them, of several in one process, is told under all their names joined by `+`.
    """

    def __init__(self, creates: Sequence[Callable[[], Collector]], options: Namespace) -> None:
        self._alone = len(creates) == 1
        self._interval_seconds = options.interval
        gather = 0.0 if self._alone else _GATHER_SECONDS
        self._outbox = Outbox(
            _exporter(options), gather_seconds=gather, burst_gather_seconds=_GATHER_SECONDS
        )
        self._sending = Attempts()
        share_heap()
        self._hosted = [
            Hosted(each, options, self._outbox, self._sending, alone=self._alone)
            for each in creates
        ]
        self._rest = Rest([each.share for each in self._hosted])
        name = "+".join(each.name for each in self._hosted)
        self._marks = {"harness.collector": name, "harness.service": options.service_name}
        find_pid = partial(cgroup.server_pid, options.cgroup)
        instance = options.instance_id.replace("{name}", name)
        self._origin = Origin(name, options.service_name, find_pid, instance)

    def ready(self, *, off: bool) -> dict[str, Any]:
        """Attach each once, which proves that it can, and tell; with `off` detach again.

        Of several, `collectors` are what each alone would have told.
        """
        told = [each.ready(off=off) for each in self._hosted]
        if self._alone:
            return told[0]
        return {
            "ready": True,
            "name": self._marks["harness.collector"],
            "hooks": [hook for each in told for hook in each["hooks"]],
            "programs": [program for each in told for program in each["programs"]],
            "load_seconds": sum(each["load_seconds"] for each in told),
            "attach_seconds": sum(each["attach_seconds"] for each in told),
            "collectors": told,
        }

    def serve(self, ready: Callable[[], None]) -> None:
        """Answer commands and export on time until all stopped or a signal; see `block_signals`.

        `ready` is called when the control sockets answer.
        """
        self._left, self._ending = len(self._hosted), threading.Lock()
        sending = threading.Thread(target=self._send, name="export", daemon=True)
        sending.start()
        for each in self._hosted:
            each.serve(self._ended)
        ready()
        if self._alone:
            signal.sigwait(_ENDING)
        else:
            while signal.sigtimedwait(_ENDING, self._pause()) is None:
                self._sending(self._tell)
        self._end()
        self._outbox.close()
        sending.join(_PATIENCE_SECONDS)

    def _pause(self) -> float:
        """Until metrics are due."""
        return max(0.0, turn(self._interval_seconds) - time.monotonic())

    def _send(self) -> None:
        while self._outbox.await_due():
            self._sending(self._outbox.send)

    def _tell(self) -> None:
        """What the process costs that is of no collector."""
        own = [footprint.cpu(self._rest, self._marks), footprint.memory(self._marks)]
        self._outbox.put(self._origin, Telemetry(), own)

    def _ended(self) -> None:
        """One collector was stopped; with the last one everything is."""
        with self._ending:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGTERM)

    def _end(self) -> None:
        """Stop those that were not; a receiver that is away or slow is waited for once."""
        left = [each for each in self._hosted if not each.given_up]
        for each in left:
            self._sending(each.halt)
        with self._outbox.ending():
            if left:
                self._sending(partial(self._outbox.send, now=True))
            for each in left:
                each.give_up()
        for each in self._hosted:
            each.end()


def _exporter(options: Namespace) -> Exporter:
    if not getattr(options, "parca", ""):  # only who profiles knows it
        return Exporter(options.otlp)
    from harness.agent.parca import ToParca  # with messages that most agents do without

    return ToParca(options.otlp, options.parca)


def block_signals() -> None:
    """Let SIGTERM and SIGINT wait for `serve`; call it before any thread starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)


def require_apart(names: Sequence[str], options: Namespace) -> None:
    """AgentError if several collectors would answer on one socket."""
    if len(names) > 1 and "{name}" not in str(options.control):
        raise AgentError(
            f"--control {options.control} is one socket for {len(names)} collectors.",
            "Each answers on its own.",
            "Put {name} into it, which is the collector's: --control /run/agent/{name}.sock",
        )
