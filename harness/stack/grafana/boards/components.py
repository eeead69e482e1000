"""The stack itself: what it takes in, what waits, what is lost, and what it costs."""

from __future__ import annotations

from harness.stack import catalog
from harness.stack.grafana.board import Board, Panel, Query, Row
from harness.stack.promql import PANEL, grown, quantile, rate
from harness.stack.rules import QUEUE_RATIO, SIGNALS

_RECORDS = {"traces": "spans", "logs": "lines"}
_KEEPERS = [component for component in catalog.known().values() if component.signal]
_ANSWERS = {
    "prometheus": "prometheus_http_request_duration_seconds",
    "tempo": "tempo_request_duration_seconds",
    "loki": "loki_request_duration_seconds",
}
"""Histograms of those that have one."""
_PARTS = "|".join(["otelcol_", *(c.prefix for c in _KEEPERS if c.prefix)])
_CPU, _RSS = (f'__name__=~"({_PARTS})process_{what}.*"' for what in ("cpu_seconds", "memory_rss"))
# those made of the Collector's parts tell their CPU and memory as it does
_GO = f'job=~"{"|".join(c.name for c in _KEEPERS if not c.prefix)}"'


def _by_signal(metric: str, by: str, suffix: str = "") -> tuple[Query, ...]:
    """One query a signal; the Collector counts each by a metric of its own."""
    return tuple(
        Query(rate(metric.format(records), by), f"{signal}{suffix}")
        for signal, records in SIGNALS.items()
    )


def _failures(metric: str) -> tuple[Query, ...]:
    """Of what only exists once it happened, by signal: then zero is what absence means."""
    return tuple(_failed(metric.format(records), signal) for signal, records in SIGNALS.items())


def _failed(counter: str, legend: str) -> Query:
    return Query(f"sum({grown(counter, 'job', '', PANEL)}) or vector(0)", legend)


_STATE = Row(
    "State",
    (
        Panel(
            "figure",
            "Answering",
            "1 for each component that Prometheus could scrape. 0: read its log, which"
            " `harness up` names.",
            (Query("min by (job) (up)", "{{job}}"),),
            least=1,
        ),
        Panel(
            "figure",
            "Alerts",
            "Alerts that fire now; Prometheus lists them under /alerts, with what to do.",
            (Query('count(ALERTS{alertstate="firing"}) or vector(0)', "firing"),),
            limits=(0.5,),
            width=6,
        ),
        Panel(
            "figure",
            "Fullest queue",
            f"Share of the Collector's queue on disk. Above {QUEUE_RATIO:.0%} the alert QueueFills"
            " is raised: a backend is away or too slow.",
            (Query("max(otelcol_exporter_queue_size / otelcol_exporter_queue_capacity)", "full"),),
            "percentunit",
            (0.1, QUEUE_RATIO),
            width=6,
        ),
    ),
)

_COLLECTOR = Row(
    "Collector",
    (
        Panel(
            "lines",
            "Taken in",
            "Records a second that the Collector acknowledged.",
            _by_signal("otelcol_receiver_accepted_{}", "receiver"),
            "cps",
            width=8,
        ),
        Panel(
            "lines",
            "Sent on",
            "Records a second that the backends acknowledged. Below what was taken in: the queue"
            " grows.",
            _by_signal("otelcol_exporter_sent_{}", "exporter", " to {{exporter}}"),
            "cps",
            width=8,
        ),
        Panel(
            "lines",
            "Waiting",
            "Records in the queue of each backend. Growth is a backend that is away or slow; a"
            " queue that is full makes the Collector refuse.",
            (Query("sum by (exporter, data_type) (otelcol_exporter_queue_size)",
                   "{{exporter}} {{data_type}}"),),
            width=8,
        ),
        Panel(
            "lines",
            "Refused",
            "Records a second that senders were told to keep: the memory limit or a full queue."
            " The included collectors keep 8,192 spans and log records, and send them again.",
            _by_signal("otelcol_receiver_refused_{}", "receiver"),
            "cps",
            (0.001,),
            width=8,
        ),
        Panel(
            "lines",
            "Lost on the way",
            "Records that a backend refused for good, in a minute or a step of the graph. The"
            " Collector's log says why.",
            _failures("otelcol_exporter_send_failed_{}"),
            "short",
            (0.5, 0.5),
            width=8,
        ),
        Panel(
            "lines",
            "Not queued",
            "Records for which the queue had no room, in a minute or a step of the graph.",
            _failures("otelcol_exporter_enqueue_failed_{}"),
            "short",
            (0.5, 0.5),
            width=8,
        ),
    ),
)  # fmt: skip

_BACKENDS = Row(
    "Backends",
    (
        Panel(
            "lines",
            "Prometheus: samples",
            "Samples a second appended, floats and histograms.",
            (Query(rate("prometheus_tsdb_head_samples_appended_total", "type"), "{{type}}"),),
            "cps",
            width=8,
        ),
        Panel(
            "lines",
            "Prometheus: series",
            "Series in memory. Growth without more services is an attribute with too many values.",
            (Query("prometheus_tsdb_head_series", "series"),),
            width=8,
        ),
        *(
            Panel(
                "lines",
                f"{c.title}: {_RECORDS[c.signal]}",
                f"{_RECORDS[c.signal].capitalize()} a second that {c.title} took.",
                (Query(rate(c.arrived, "job"), _RECORDS[c.signal]),),
                "cps",
                width=8,
                of=c.name,
            )
            for c in _KEEPERS
            if c.signal in _RECORDS
        ),
        *(
            Panel(
                "lines",
                f"{c.title}: thrown away",
                f"Records that {c.title} took or was sent and threw away, in a minute or a step of"
                " the graph.",
                (_failed(c.discarded, c.signal),),
                "short",
                (0.5, 0.5),
                width=8,
                of=c.name,
            )
            for c in _KEEPERS
            if c.signal in _RECORDS
        ),
        Panel(
            "lines",
            "Tempo: series made of spans",
            "Series of span metrics and service graph; many names of spans make many series.",
            (Query("sum(tempo_metrics_generator_registry_active_series)", "series"),),
            width=8,
            of="tempo",
        ),
    ),
)  # fmt: skip

_COST = Row(
    "What it costs",
    (
        Panel(
            "lines",
            "CPU",
            "Share of one CPU of each component.",
            (
                Query(rate("process_cpu_seconds_total", "job", _GO), "{{job}}"),
                Query(f"sum by (job) (rate({{{_CPU}}}[{PANEL}]))", "{{job}}"),
            ),
            "percentunit",
        ),
        Panel(
            "lines",
            "Memory",
            "Resident memory of each component.",
            (
                Query(f"sum by (job) (process_resident_memory_bytes{{{_GO}}})", "{{job}}"),
                Query(f"sum by (job) ({{{_RSS}}})", "{{job}}"),
            ),
            "bytes",
        ),
        *(
            Panel(
                "lines",
                f"Answering time of {name.title()}, p95",
                "Of its requests, writes and queries; slow writes let the queue grow.",
                (Query(quantile(0.95, histogram, "job"), "{{job}}"),),
                "s",
                of=name,
            )
            for name, histogram in _ANSWERS.items()
        ),
    ),
)

BOARD = Board(
    "harness-components",
    "The stack itself",
    "Does the stack take all that comes in, does anything wait or get lost, and what does it cost?",
    (),
    (_STATE, _COLLECTOR, _BACKENDS, _COST),
)
