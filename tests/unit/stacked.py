"""A made-up run with the full stack: what its components used, and what was found in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.model import Arm, Measurement
from tests.unit import synthetic
from tests.unit.synthetic import Truth

ARMS = (Arm("baseline"), Arm("http", ("http",)), Arm("guard", ("guard",)))
FULL = synthetic.experiment(workloads=("go",), arms=ARMS, switched_seconds=1.2, stack="full")
GRAFANAS = {"traces": "tempo", "metrics": "prometheus", "logs": "loki"}
"""Who keeps each signal where Tempo and Loki can be had."""
IDLE = {"tempo": 0.02, "loki": 0.01, "otelcol": 0.03}  # CPU seconds a second
SECONDS = 6.0
SCATTER = 0.012  # CPU seconds more of the idle Collector in one of the blocks


def write(path: Path) -> Any:
    """The run, as `synthetic.write` makes one."""
    run = synthetic.write(path, FULL, Truth(), components={"tempo": "2.8.0"})
    for record in run.records():
        if record.trial.kind == "switched":
            values = [v for v in record.values if not v.metric.startswith("data_latency")]
            more = (*values, *_asked(record))
            run.append(dataclasses.replace(record, values=more), run.windows(record.trial))
    return run


def _asked(record: Any) -> Iterator[Measurement]:
    """Values as an evaluation with the full stack notes them; a span costs Tempo 1 ms."""
    t = record.trial

    def value(metric: str, number: float, **labels: str) -> Measurement:
        return Measurement(metric, number, "", t.workload, t.arm, t.block, t.name, None, labels)

    spans = 1000.0 + 200 * t.block if t.arm == "http" else 0.0
    yield value("stack_seconds", SECONDS)
    yield value("steady_seconds", FULL.steady_seconds)
    for name, idle in IDLE.items():
        used = idle * SECONDS + (spans * 1e-3 if name == "tempo" else 0.0)
        if (name, t.arm, t.block) == ("otelcol", "baseline", 1):
            used += SCATTER
        yield value("stack_cpu_seconds", used, component=name)
        yield value("stack_pss_bytes", 80e6, component=name)
    for kind, count in (("spans", spans), ("metrics", 40.0), ("logs", 12.0)):
        yield value("stack_records", count, kind=kind)
    yield value("data_latency_resolution_seconds", 0.21)
    if t.arm == "http":
        yield value("signal_seen", spans - 2, collector="http", signal="spans")
        yield value("signal_made", spans, collector="http", signal="spans")
        for kind, p50, p99 in (("spans", 1.9, 2.8), ("metrics", 3.1, 6.2)):
            labels = {"collector": "http", "signal": kind}
            yield value("data_latency_records", 150, **labels)
            yield value("data_latency_p50_seconds", p50, **labels)
            yield value("data_latency_p99_seconds", p99 + t.block, **labels)
    if t.arm == "guard":
        yield value("data_latency_records", 3, collector="guard", signal="logs")


def texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list):
        for value in tree:
            yield from texts(value)
    elif isinstance(tree, str):
        yield tree
