"""What the stack's programs count themselves of the records that pass; `step` reads it at edges."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from harness.errors import ComponentError
from harness.stack import client
from harness.stack.config import Stack
from harness.wire.telemetry import BACKENDS

TRACES = {"spans": "traces", "points": "metrics", "logs": "logs"}  # as OTLP calls the signals
_COLLECTOR = {"spans": "spans", "points": "metric_points", "logs": "log_records"}
_LINE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Sample:
    """One line of a Prometheus exposition."""

    name: str
    labels: Mapping[str, str]
    value: float


def parse(text: str, names: Iterable[str]) -> Iterator[Sample]:
    """The samples whose name is, or begins with and an underscore, one of `names`.

    So a counter is found with and without the suffixes that exporters add (`_total`, a unit).
    """
    wanted = tuple(names)
    for found in _LINE.finditer(text):
        name = found[1]
        if any(name == one or name.startswith(one + "_") for one in wanted):
            yield Sample(name, dict(_LABEL.findall(found[2] or "")), float(found[3]))


def collector(text: str, signal: str) -> dict[str, float]:
    """What the Collector counts of a signal.

    `accepted`, `refused` by its receiver; `sent`, `failed`, `unqueued` by the exporter; `queue`:
    records that wait now.
    """
    kind, backend = _COLLECTOR[signal], BACKENDS[signal]
    names = {
        f"otelcol_receiver_accepted_{kind}": "accepted",
        f"otelcol_receiver_refused_{kind}": "refused",
        f"otelcol_exporter_sent_{kind}": "sent",
        f"otelcol_exporter_send_failed_{kind}": "failed",
        f"otelcol_exporter_enqueue_failed_{kind}": "unqueued",
        "otelcol_exporter_queue_size": "queue",
    }
    values = dict.fromkeys(names.values(), 0.0)
    for sample in parse(text, names):
        exporter = sample.labels.get("exporter", "")
        if exporter and backend not in exporter:
            continue
        key = next(k for name, k in names.items() if sample.name.startswith(name))
        values[key] += sample.value
    return values


def backend(text: str, signal: str) -> dict[str, float]:
    """What the signal's backend counts: `arrived` records, `discarded.REASON`.

    Prometheus counts no OTLP points: there it is `samples` that were appended, of whatever origin.
    """
    arrived, discarded = {
        "spans": ("tempo_distributor_spans_received_total", "tempo_discarded_spans_total"),
        "logs": ("loki_distributor_lines_received_total", "loki_discarded_samples_total"),
        "points": (
            "prometheus_tsdb_head_samples_appended_total",
            "prometheus_tsdb_out_of_bound_samples_total",
        ),
    }[signal]
    key = "samples" if signal == "points" else "arrived"
    values = {key: 0.0}
    for sample in parse(text, (arrived, discarded)):
        if sample.name == arrived:
            values[key] += sample.value
        else:
            reason = f"discarded.{sample.labels.get('reason', 'out of bounds')}"
            values[reason] = values.get(reason, 0.0) + sample.value
    return values


def of_collector(stack: Stack, signal: str) -> dict[str, float]:
    """What the Collector counts now; ComponentError if it does not answer."""
    return collector(_get(collector_url(stack)), signal)


def of_backend(stack: Stack, signal: str) -> dict[str, float]:
    """What the signal's backend counts now; ComponentError if it does not answer."""
    ports = {"tempo": stack.ports.tempo, "loki": stack.ports.loki,
             "prometheus": stack.ports.prometheus}  # fmt: skip
    return backend(_get(stack.url(ports[BACKENDS[signal]]) + "/metrics"), signal)


def collector_url(stack: Stack) -> str:
    """Where the Collector tells its own metrics: on loopback, wherever the stack listens."""
    return f"http://127.0.0.1:{stack.ports.collector_metrics}/metrics"


def _get(url: str) -> str:
    try:
        return client.get(url).decode()
    except client.FAILURES as error:
        raise ComponentError(
            f"{url} does not answer: {error}.", next_step="Look into the logs of the stack."
        ) from error
