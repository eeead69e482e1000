"""`inject`: no collector but a known cost, to see whether it is measured; see bpf/inject.bpf.c.

`--ns N` burns N nanoseconds more than `--ns 0` in the context of the service, `--agent-percent P`
burns P % of one CPU in this process. Both burn only while switched on. `--at response` burns before
each response leaves, `--at getsockopt` in each of these system calls: `plain` makes one when it has
answered, so that nobody waits for the burn. What was truly burnt is measured here and told in the
answers to `stats` and `flush`:

    injected_events      segments with payload that left the cgroup, or calls of getsockopt
    injected_ns          ns burnt in them, by the machine's clock; the program's other work is not
                         in it: compare with `--ns 0`, which does the same and burns nothing (the
                         time between two readings of the clock, 0.04 to 0.1 us an event)
    injected_paused_ns   of these, ns in which the CPU did something else for 0.2 ms or longer
    injected_calm_events, injected_calm_ns
                         events, and their ns, that nothing interrupted for 3 us or longer
    agent_burnt_seconds  CPU time of the burning thread of this process, by its own clock
"""

from __future__ import annotations

import struct
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from harness.agent import layouts
from harness.agent.collector import Attachment
from harness.agent.errors import AgentError
from harness.agent.libbpf import Object
from harness.agent.telemetry import Counts, Point, Telemetry, counter

MAX_NS = 1_000_000
_BURNT = struct.Struct("=QQQQQ")  # struct burnt
_TOLD = tuple(
    f"injected_{name}" for name in ("ns", "events", "paused_ns", "calm_ns", "calm_events")
)  # its members
_PROGRAMS = {"response": "burn", "getsockopt": "burn_aside"}  # by place
_PERIOD_SECONDS = 0.01  # well below a window, so that every window bears its share
_BACKLOG_PERIODS = 2  # what was not burnt for want of a CPU is made up for no longer than this


def add_options(parser: ArgumentParser) -> None:
    """`--ns`, `--at`, `--agent-percent`."""
    parser.add_argument("--ns", type=int, default=0, help="nanoseconds to burn each time")
    parser.add_argument("--at", choices=_PROGRAMS, default="response", help="where to burn them")
    parser.add_argument(
        "--agent-percent", type=float, default=0.0, help="percent of one CPU to burn itself"
    )


def create(options: Namespace) -> Inject:
    """The cost that the command line asks for; AgentError if it cannot be."""
    if not 0 <= options.ns <= MAX_NS:
        raise AgentError(f"--ns {options.ns} is not between 0 and {MAX_NS}.")
    if not 0 <= options.agent_percent <= 100:
        raise AgentError(f"--agent-percent {options.agent_percent:g} is not between 0 and 100.")
    return Inject(options.ns, options.at, options.agent_percent)


class Inject:
    """Burns a stated time, and tells how much it was."""

    name = "inject"

    def __init__(self, ns: int, at: str, agent_percent: float) -> None:
        self._ns, self._at = ns, at
        self._burner = Burner(agent_percent / 100) if agent_percent else None

    def configure(self, obj: Object) -> None:
        """Tell the kernel how long to burn, and where."""
        layouts.check(obj, "burnt", _BURNT)
        obj.set("targ_ns", self._ns)
        for place, name in _PROGRAMS.items():
            if place != self._at:
                obj.program(name).skip()

    def start(self, obj: Object) -> None:
        """Nothing but the loaded object is needed."""
        self._object = obj

    def aim(self, obj: Object, directory: int) -> None:
        """Burn in this cgroup with the next `attach`."""
        self._directory = directory

    def attach(self, obj: Object) -> Sequence[Attachment]:
        """Burn from now on."""
        attached: list[Attachment] = [
            obj.program(_PROGRAMS[self._at]).attach_cgroup(self._directory)
        ]
        if self._burner is not None:
            self._burner.resume()
            attached.append(self._burner)
        return attached

    def collect(self, *, metrics: bool) -> Telemetry:
        """Two counters."""
        if not metrics:
            return Telemetry()
        told = self._totals()
        return Telemetry(
            metrics=[
                counter("inject.events", "{event}", [Point({}, told["injected_events"])]),
                counter("inject.time", "s", [Point({}, told["injected_ns"] / 1e9)]),
            ]
        )

    def counts(self) -> Counts:
        """Nothing is ever lost; `more` is the truth that a measurement should recover."""
        told = self._totals()
        burnt = self._burner.cpu_seconds() if self._burner else 0.0
        return Counts(told["injected_events"], 0, {**told, "agent_burnt_seconds": burnt})

    def close(self) -> bool:
        """End the thread."""
        if self._burner is not None:
            self._burner.close()
        return True

    def _totals(self) -> dict[str, int]:
        totals = self._object.map("totals")
        value = totals.lookup(bytes(4)) or bytes(totals.stored)
        return dict(zip(_TOLD, _BURNT.unpack(value), strict=True))


class Burner:
    """A thread that burns a share of one CPU in short spells while it is on; an Attachment."""

    def __init__(self, share: float) -> None:
        self.hook = f"agent/cpu@{100 * share:g}%"
        self._share = share
        self._on, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="burner", daemon=True)
        self._thread.start()
        assert self._thread.ident is not None
        self._clock = time.pthread_getcpuclockid(self._thread.ident)
        self._last = 0.0

    def resume(self) -> None:
        """Burn from now on."""
        self._on.set()

    def destroy(self) -> None:
        """Burn no more, from now on."""
        self._on.clear()

    def cpu_seconds(self) -> float:
        """CPU time of the thread so far."""
        if self._thread.is_alive():
            self._last = time.clock_gettime(self._clock)
        return self._last

    def close(self) -> None:
        """End the thread."""
        self.cpu_seconds()
        self._ended = True
        self._on.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended:
            self._on.wait()
            self._burn()

    def _burn(self) -> None:
        """Keep the thread's clock at a share of the wall clock until switched off."""
        wall, cpu = time.monotonic(), time.thread_time()
        most = self._share * _PERIOD_SECONDS * (1 + _BACKLOG_PERIODS)
        while self._on.is_set() and not self._ended:
            now = time.thread_time()
            due = cpu + self._share * (time.monotonic() - wall)
            cpu -= max(0.0, due - now - most)
            due = min(due, now + most)
            while time.thread_time() < due and self._on.is_set():
                pass
            time.sleep(_PERIOD_SECONDS * (1 - self._share))
