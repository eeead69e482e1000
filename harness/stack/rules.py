"""What Prometheus works out and raises alarm about; written beside its configuration.

An alert's summary is filled in by Prometheus; description says what it means, runbook what to do,
dashboard where to look. Limits are below; tests/e2e/test_rules.py crosses each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.stack import catalog
from harness.stack.promql import grown, or_zero, rate, share

ERROR_RATIO = 0.05  # of requests
AGENT_CORES = 0.05  # a collector's agent and programs together, in CPUs
BILL_PERCENT = 2.0  # of the machine, as an evaluation found it
QUEUE_RATIO = 0.5  # of the Collector's queue on disk

SIGNALS = {"traces": "spans", "metrics": "metric_points", "logs": "log_records"}
"""Signal -> what the Collector calls its records."""

_WINDOW = "5m"
_JOBS = "|".join(name for name, one in catalog.known().items() if one.signal or name == "otelcol")
_DISCARDED = " or ".join(
    grown(one.discarded, "job, reason", "", _WINDOW)
    for one in catalog.known().values()
    if one.signal in ("traces", "logs")
)
_VALUE = '{{ $value | printf "%.3g" }}'
_REQUESTS = "http_server_request_duration_seconds_count"
_COLLECTOR = "harness_collector, harness_service, host_name"


@dataclass(frozen=True)
class Alert:
    """One alert; `hold` is how long it must be so, `labels` tell alerts of one name apart."""

    name: str
    expr: str
    hold: str
    severity: str
    summary: str
    description: str
    runbook: str
    dashboard: str
    labels: tuple[tuple[str, str], ...] = ()

    def tree(self) -> dict[str, Any]:
        """As a rule file holds it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.hold,
            "labels": {"severity": self.severity, **dict(self.labels)},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook": self.runbook,
                "dashboard": f"/d/{self.dashboard}",
            },
        }


def rules() -> dict[str, Any]:
    """The rule file: a group of recording rules and one of alerts."""
    recordings = [{"record": name, "expr": expr} for name, expr in RECORDINGS.items()]
    groups = {"recordings": recordings, "alerts": [alert.tree() for alert in alerts()]}
    return {"groups": [{"name": f"harness-{k}", "rules": v} for k, v in groups.items()]}


def alerts() -> Iterator[Alert]:
    """Every alert, those of the Collector once a signal."""
    yield from ALERTS
    for signal, records in SIGNALS.items():
        yield from _of_collector(signal, records)


def _cores() -> str:
    own = 'harness_collector!=""'  # another process may send process.cpu.time as well
    agent = rate("process_cpu_time_seconds_total", _COLLECTOR, own, _WINDOW)
    programs = rate("bpf_program_run_time_seconds_total", _COLLECTOR, "", _WINDOW)
    return f"{agent} + {or_zero(programs, agent)}"


def _errors() -> str:
    failed = rate(_REQUESTS, "service_name", 'http_response_status_code=~"5.."', _WINDOW)
    return share(failed, rate(_REQUESTS, "service_name", "", _WINDOW))


RECORDINGS = {
    "service_name:http_server_requests:rate5m": rate(_REQUESTS, "service_name", "", _WINDOW),
    "service_name:http_server_errors:ratio_rate5m": _errors(),
    "harness_collector:cpu_cores:rate5m": _cores(),
    "harness_collector:events_lost:increase5m": grown(
        "harness_agent_events_lost_total", _COLLECTOR, "", _WINDOW
    ),
}
"""Name -> expression; `cpu_cores` is an agent's CPU and the time in its BPF programs, in CPUs."""

ALERTS = (
    Alert(
        "ServiceErrorRate",
        f"service_name:http_server_errors:ratio_rate5m > {ERROR_RATIO}",
        "2m",
        "warning",
        "{{ $labels.service_name }} fails {{ $value | humanizePercentage }} of its requests",
        f"More than {ERROR_RATIO:.0%} of the requests were answered with 5xx for two minutes.",
        "Open a trace of a failed request, from the table of failed requests or from an exemplar,"
        " and go on to the service's log lines of that time.",
        "harness-service",
    ),
    Alert(
        "AgentEventsLost",
        "harness_collector:events_lost:increase5m > 0",
        "0s",
        "warning",
        "{{ $labels.harness_collector }} on {{ $labels.host_name }} lost"
        ' {{ $value | printf "%.3g" }} events of {{ $labels.harness_service }} in 5 minutes',
        "Events found a buffer or a map full, or no receiver took them: what this collector shows"
        " is incomplete from here on.",
        "See whether the Collector refuses or is away. If not, drain more often (--drain), or"
        " sample less (http: --sample).",
        "harness-collectors",
    ),
    Alert(
        "CollectorOverBudget",
        f"harness_collector:cpu_cores:rate5m > {AGENT_CORES}",
        "5m",
        "warning",
        "{{ $labels.harness_collector }} on {{ $labels.host_name }} takes"
        " {{ $value | humanizePercentage }} of a CPU for {{ $labels.harness_service }}",
        f"Agent and BPF programs together take more than {AGENT_CORES:.0%} of a CPU; the programs"
        " only count while kernel.bpf_stats_enabled is set, without it this is the agent alone."
        " What the service pays beyond that is not in this figure; an evaluation measures it.",
        "Look which part grew: programs grow with the events, the agent with series and spans."
        " Then sample less, or run `harness evaluate` to see what the service pays.",
        "harness-collectors",
    ),
    Alert(
        "EvaluationOverBudget",
        "last_over_time(harness_result"
        f'{{harness_metric="bill_percent",harness_bound="low"}}[1h]) > {BILL_PERCENT}',
        "0s",
        "warning",
        "{{ $labels.harness_arm }} costs {{ $labels.harness_workload }} at least"
        ' {{ $value | printf "%.2f" }} % of the machine',
        "The lower end of the 95 % interval of an evaluation lies above the budget of"
        f" {BILL_PERCENT:g} %.",
        "Read the run's report (harness report RUN): the bill names what is dear.",
        "harness-results",
    ),
    Alert(
        "BackendDown",
        f'up{{job=~"{_JOBS}"}} == 0',
        "30s",
        "critical",
        "{{ $labels.job }} does not answer",
        "Prometheus could not scrape it for 30 s. What is sent meanwhile waits in the Collector's"
        " queue on disk; if it is the Collector that is away, agents lose spans and events.",
        "Read its log (`harness up` names it). `harness down` and `harness up` start anew, without"
        " the data.",
        "harness-components",
    ),
    Alert(
        "QueueFills",
        f"otelcol_exporter_queue_size / otelcol_exporter_queue_capacity > {QUEUE_RATIO}",
        "1m",
        "warning",
        "The queue of {{ $labels.exporter }} is {{ $value | humanizePercentage }} full",
        "Its backend is away or slower than what comes in. When the queue is full, the Collector"
        " refuses, and agents lose spans and events.",
        "See whether the backend is up and what CPU it takes; send less, or give it more.",
        "harness-components",
    ),
    Alert(
        "BackendDiscards",
        f"({_DISCARDED}) > 0",
        "0s",
        "warning",
        '{{ $labels.job }} threw away {{ $value | printf "%.3g" }} records in 5 minutes:'
        " {{ $labels.reason }}",
        "A backend took records and threw them away, because one of its limits was reached.",
        "The reason names the limit; it is set in the component's configuration.",
        "harness-components",
    ),
)


def _of_collector(signal: str, records: str) -> Iterator[Alert]:
    refused = rate(f"otelcol_receiver_refused_{records}", "receiver", "", _WINDOW)
    yield Alert(
        "CollectorRefuses",
        f"{refused} > 0",
        "0s",
        "warning",
        f"The Collector refuses {_VALUE} {records.replace('_', ' ')} a second",
        "Its memory limit is reached or its queue is full. Senders that do not repeat lose these.",
        "See which queue is full and whether its backend is up; else raise the memory limit.",
        "harness-components",
        (("signal", signal),),
    )
    failed = " or ".join(
        grown(f"otelcol_exporter_{way}_failed_{records}", "exporter", "", _WINDOW) + " > 0"
        for way in ("send", "enqueue")
    )
    yield Alert(
        "CollectorDrops",
        failed,
        "0s",
        "critical",
        f"{{{{ $labels.exporter }}}} dropped {_VALUE} {records.replace('_', ' ')} in 5 minutes",
        "A backend refused them for good, or they found the queue full: they are lost.",
        "The Collector's log says what the backend answered.",
        "harness-components",
        (("signal", signal),),
    )
