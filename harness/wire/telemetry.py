"""What each signal of a collector is counted by; the small sink and the full stack agree on it."""

from __future__ import annotations

# signal -> the metrics that count it
METRICS = {
    "requests": "http.server.request.duration",
    "connections": "tcp.connections.opened",
    "samples": "profile.samples",
}
EVENTS = {"executions": "process.exec"}  # signal -> the log record that tells it
PORT = "server.port"  # the attribute that says at which port a request was served
SIGNALS = (*METRICS, *EVENTS)
SPREAD = tuple(step / 20 for step in range(21))  # of what one export of a metric counts, in time
SPANS = "spans"  # as many as the collector says it sent; asked for where they can be found again
KINDS = {
    **dict.fromkeys(METRICS, "metrics"),
    **dict.fromkeys(EVENTS, "logs"),
    SPANS: "spans",
}  # signal -> the kind of telemetry that tells it

# what a record is, as ramps call it -> the signal, as OTLP calls it
RECORDS = {"spans": "traces", "points": "metrics", "logs": "logs"}

IN_AGENT = ("iter",)  # hooks whose programs an agent runs itself, in its own CPU time


def growth(last: tuple[int, float] | None, value: float) -> tuple[float, int | None]:
    """What a cumulative count added since its last point (ns, value), and since when.

    One without a last point, or that fell, counts from zero, since its series began: None.
    """
    if last is None or value < last[1]:
        return value, None
    return value - last[1], last[0]
