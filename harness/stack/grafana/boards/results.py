"""Results of evaluations over time: what each run found, with its interval."""

from __future__ import annotations

from harness.stack.grafana.board import Board, Panel, Query, Row, Variable
from harness.stack.rules import BILL_PERCENT

_OF = 'harness_workload=~"$workload", harness_arm=~"$arm"'
_NAMED = "{{harness_workload}} {{harness_arm}}"


def _result(metric: str, bound: str = "estimate") -> str:
    """What the runs said within a step: a result is one sample, and no line leads to the next."""
    where = f'{_OF}, harness_metric=~"{metric}", harness_bound="{bound}"'
    return f"last_over_time(harness_result{{{where}}}[$__interval])"


def _panel(
    title: str,
    what: str,
    metric: str,
    unit: str,
    limits: tuple[float, ...] = (),
    bounds: tuple[str, ...] = ("estimate",),
    named: str = _NAMED,
) -> Panel:
    queries = tuple(
        Query(_result(metric, bound), named if bound == "estimate" else f"{named}, {bound}")
        for bound in bounds
    )
    return Panel("points", title, what, queries, unit, limits)  # fmt: skip


_INTERVAL = ("estimate", "low", "high")

BOARD = Board(
    "harness-results",
    "Evaluations: results over time",
    "What did collectors cost the services in each evaluation, and did it change?",
    (
        Variable("workload", "Workload", "harness_result", "harness_workload"),
        Variable("arm", "Arm", "harness_result", "harness_arm"),
    ),
    (
        Row(
            "Cost",
            (
                _panel(
                    "Bill",
                    "BPF programs, their entry and agents, in percent of the machine, with the 95 %"
                    " interval. If the low end passes the limit, EvaluationOverBudget is raised.",
                    "bill_percent",
                    "percent",
                    (BILL_PERCENT,),
                    _INTERVAL,
                ),
                _panel(
                    "CPU of a request",
                    "What a request of the service costs more with the collector on, in percent;"
                    " an interval that holds zero is no effect that could be seen.",
                    "workload_cpu_percent",
                    "percent",
                    bounds=_INTERVAL,
                ),
                _panel(
                    "Median latency",
                    "Difference of the median, on less off.",
                    "latency_p50_us",
                    "µs",
                    bounds=_INTERVAL,
                ),
                _panel(
                    "Memory of agents",
                    "Shared pages divided among their users.",
                    "agent_memory_mb",
                    "decmbytes",
                ),
            ),
        ),
        Row(
            "Worth",
            (
                _panel(
                    "Coverage",
                    "Share of what happened that was told. Below 95 %: what was sampled or lost?",
                    "coverage_percent.*",
                    "percent",
                    named=_NAMED + " {{harness_metric}}",
                ),
                _panel(
                    "Data latency",
                    "From the end of a request until it could be looked at, 99th percentile.",
                    "data_latency_p99_s.*",
                    "s",
                    (5.0, 30.0),
                    named=_NAMED + " {{harness_metric}}",
                ),
            ),
        ),
        Row(
            "All of it",
            (
                Panel(
                    "table",
                    "Latest results",
                    "The last value of every metric in the time shown, with the ends of its"
                    " interval. The report of the run says how each was obtained.",
                    tuple(
                        Query(
                            "max by (harness_run, harness_workload, harness_arm, harness_metric)"
                            f' (last_over_time(harness_result{{{_OF}, harness_bound="{bound}"}}'
                            "[$__range]))",
                            bound,
                        )
                        for bound in _INTERVAL
                    ),
                    width=24,
                ),
            ),
        ),
    ),
    hours=24,
)
