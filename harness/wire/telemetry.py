"""What can be counted of collectors' telemetry, and where it is kept; receivers agree on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TelemetryKind = Literal["spans", "metrics", "logs"]
Made = Literal["requests", "connects", "executions", "cpu_seconds", "sent"]
"""What a signal is held beside: what the load driver had answered, connections or executions that
the node makes as probes, CPU time of the service at a sampling rate, what the collector says that
it sent.
"""


@dataclass(frozen=True)
class Signal:
    """One thing that coverage counts. All tables of signals derive from SIGNALS.

    Telemetry of this `kind` tells it: the metric, the event of log records, or the kind of span,
    called `counted_by`.
    `probe` is the attribute by which probes are told from what the service does itself. One that is
    told `by_socket` is the service's if the socket is that of its cgroup.
    """

    name: str
    kind: TelemetryKind
    counted_by: str
    made: Made
    probe: str = ""
    by_socket: bool = False

    @property
    def is_probed(self) -> bool:
        """Whether the harness makes a few of its own and looks for them."""
        return bool(self.probe)

    @property
    def is_expected(self) -> bool:
        """Whether how many were to come is an expectation, not a count."""
        return self.made == "cpu_seconds"


SPANS = "spans"  # asked for where they can be found again
SERVER_SPANS = "server_spans"  # one for each request, of who traces them all
SAMPLES = "samples"  # as pprof calls them, too
SIGNALS: dict[str, Signal] = {
    each.name: each
    for each in (
        Signal(
            "requests", "metrics", "http.server.request.duration", made="requests", by_socket=True
        ),
        Signal(
            "connections", "metrics", "tcp.connections.opened", made="connects",
            probe="network.peer.address", by_socket=True,
        ),
        Signal(
            "executions", "logs", "process.exec", made="executions",
            probe="process.executable.path",
        ),
        Signal(SAMPLES, "metrics", "profile.samples", made="cpu_seconds"),
        Signal(SPANS, "spans", "", made="sent"),
        Signal(SERVER_SPANS, "spans", "SERVER", made="requests"),
    )
}  # fmt: skip
PORT = "server.port"  # the attribute that says at which port a request was served
SPREAD = tuple(step / 20 for step in range(21))  # of what one export of a metric counts, in time

# what a record is, as ramps call it -> the signal, as OTLP calls it
RECORDS = {"spans": "traces", "points": "metrics", "logs": "logs"}

IN_AGENT = ("iter",)  # hooks whose programs an agent runs itself, in its own CPU time


def countable() -> tuple[str, ...]:
    """The signals of which one that speaks our protocol may say that it is counted by them."""
    return tuple(each.name for each in SIGNALS.values() if each.kind != "spans")


def growth(last: tuple[int, float] | None, value: float) -> tuple[float, int | None]:
    """What a cumulative count added since its last point (ns, value), and since when.

    One without a last point, or that fell, counts from zero, since its series began: None.
    """
    if last is None or value < last[1]:
        return value, None
    return value - last[1], last[0]
