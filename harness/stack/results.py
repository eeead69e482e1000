"""Sends the figures of a run into the stack, where dashboards show them; for `session`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

from harness.model import Comparison
from harness.stack import client

NAME = "harness.result"
SERVICE = "harness"
BOUNDS = ("estimate", "low", "high")


def send(url: str, run: str, rows: Iterable[Comparison]) -> None:
    """Post a gauge for each row and bound to an OTLP receiver; ComponentError if it refuses."""
    client.post(f"{url}/v1/metrics", payload(run, rows, time.time_ns()), "them")


def payload(run: str, rows: Iterable[Comparison], now_ns: int) -> dict[str, Any]:
    """An OTLP/JSON export request; the unit is an attribute, so that the name stays one."""
    points = [
        {
            "timeUnixNano": str(now_ns),
            "asDouble": value,
            "attributes": _attributes(
                {
                    "harness.run": run,
                    "harness.workload": row.workload,
                    "harness.arm": row.arm,
                    "harness.metric": row.metric,
                    "harness.unit": row.unit,
                    "harness.bound": bound,
                }
            ),
        }
        for row in rows
        for bound in BOUNDS
        if math.isfinite(value := getattr(row, bound))
    ]
    resource = {"attributes": _attributes({"service.name": SERVICE})}
    metric = {"name": NAME, "gauge": {"dataPoints": points}}
    scope = {"scope": {"name": SERVICE}, "metrics": [metric]}
    return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [scope]}]}


def _attributes(values: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items()]
