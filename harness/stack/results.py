"""Sends the figures of a run into the stack, where dashboards show them; for `receivers`."""

from __future__ import annotations

import http.client
import json
import math
import time
import urllib.request
from collections.abc import Iterable
from typing import Any

from harness.errors import ComponentError
from harness.model import Comparison

NAME = "harness.result"
SERVICE = "harness"
BOUNDS = ("estimate", "low", "high")


def send(url: str, run: str, rows: Iterable[Comparison]) -> None:
    """Post a gauge for each row and bound to an OTLP receiver; ComponentError if it refuses."""
    body = json.dumps(payload(run, rows, time.time_ns())).encode()
    headers = {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{url}/v1/metrics", body, headers), timeout=10
        ):
            pass
    except (OSError, http.client.HTTPException) as error:
        raise ComponentError(f"The Collector did not take them at {url}: {error}.") from error


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
