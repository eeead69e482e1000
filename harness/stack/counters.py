"""What the stack's programs count themselves of records; `ramp_step` reads it at edges."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from harness.errors import ComponentError
from harness.stack import catalog, client
from harness.stack.catalog import Component
from harness.stack.config import Stack

RECORDS = {"traces": "spans", "metrics": "metric_points", "logs": "log_records"}
"""Signal -> what the Collector calls its records."""
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


def collector(text: str, signal: str, keeper: str) -> dict[str, float]:
    """What the Collector counts of a signal (traces, metrics, logs) that goes to `keeper`.

    `accepted`, `refused` by its receiver; `sent`, `failed`, `unqueued` by the exporter; `queue`:
    records that wait now.
    """
    kind = RECORDS[signal]
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
        if exporter and not exporter.endswith(f"/{keeper}"):
            continue
        key = next(k for name, k in names.items() if sample.name.startswith(name))
        values[key] += sample.value
    return values


def backend(text: str, keeper: Component) -> dict[str, float]:
    """What the component that keeps a signal counts: `arrived` records, `discarded.REASON`.

    Of metrics no records are counted: there it is `samples` that were appended, of whatever origin.
    """
    key = "samples" if keeper.signal == "metrics" else "arrived"
    values = {key: 0.0}
    arrived, discarded = (_own(keeper, name) for name in (keeper.arrived, keeper.discarded))
    for sample in parse(text, (arrived, discarded)):
        if sample.name.startswith(arrived):
            values[key] += sample.value
        else:
            reason = f"discarded.{sample.labels.get('reason', 'out of bounds')}"
            values[reason] = values.get(reason, 0.0) + sample.value
    return values


def _own(component: Component, name: str) -> str:
    """What the component itself calls a counter; one of the Collector's parts may add `_total`."""
    if not component.prefix:
        return name
    return "otelcol_" + name.removeprefix(component.prefix).removesuffix("_total")


def of_collector(stack: Stack, signal: str) -> dict[str, float]:
    """What the Collector counts of a signal now; ComponentError if it does not answer."""
    return collector(
        _get(stack.url("otelcol", "metrics") + "/metrics"), signal, stack.keeps[signal]
    )


def of_backend(stack: Stack, signal: str) -> dict[str, float]:
    """What the signal's keeper counts now; ComponentError if it does not answer."""
    keeper = catalog.known()[stack.keeps[signal]]
    return backend(_get(stack.url(keeper.name, keeper.metrics) + "/metrics"), keeper)


def _get(url: str) -> str:
    try:
        return client.get(url).decode()
    except client.FAILURES as error:
        raise ComponentError(
            f"{url} does not answer: {error}.", next_step="Look into the logs of the stack."
        ) from error
