"""What collectors saw nothing of, did not tell, or saw beside the measured port.

`caution` and `headline` ask.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from harness.analysis.validity import Judged
from harness.model import Comparison
from harness.wire.telemetry import SIGNALS

ENOUGH = 95.0  # % of what there was
# % of the samples that CPU time makes one expect: a guest, whose timers are late, gives half
THIRD = 100 / 3


def nothing(rows: Sequence[Comparison]) -> Iterator[tuple[Comparison, str]]:
    """The rows of which nothing was seen, each with its signal."""
    for row in rows:
        if _is_coverage(row) and row.estimate == 0:
            yield row, signal(row)


def unseen(rows: Sequence[Comparison]) -> Iterator[str]:
    """Collectors that told of nothing: what they cost is what it costs to look."""
    for row, name in nothing(rows):
        why = " Is it encrypted (TLS)?" if name == "requests" else ""
        if is_within(rows, row):
            why = " Does it know this kind of server?"
        yield (
            f"{row.workload}: {row.arm} told of none of {row.n:,} {name}: what was measured is "
            f"what it costs to look, and finds nothing.{why}"
        )


def is_within(rows: Sequence[Comparison], row: Comparison) -> bool:
    """Whether it is of a collector in the service's own process, from which TLS hides nothing."""
    mine = row.workload, row.arm
    return any((each.workload, each.arm) == mine and each.metric == "startup_s" for each in rows)


def partly(rows: Sequence[Comparison]) -> Iterator[tuple[Comparison, str]]:
    """The rows of which too little was seen for their cost to be that of seeing all."""
    for row in rows:
        if _is_coverage(row) and row.estimate > 0 and row.high < enough(row):
            yield row, signal(row)


def enough(row: Comparison) -> float:
    """From which percentage on what a row says was seen is enough for its cost to be compared."""
    return THIRD if is_expected(signal(row)) else ENOUGH


def signal(row: Comparison) -> str:
    """What a row of coverage counts: `requests` of coverage_percent[requests]."""
    return row.metric.partition("[")[2].rstrip("]")


def _is_coverage(row: Comparison) -> bool:
    return row.metric.startswith("coverage_percent[")


def lossy(rows: Sequence[Comparison]) -> list[Comparison]:
    """The rows by which a collector lost too many events for its cost to be that of all."""
    return [row for row in rows if row.metric == "lost_percent" and row.low > 100 - ENOUGH]


def is_expected(name: str) -> bool:
    """Whether how many there were is an expectation; events that it counts itself are none."""
    told = SIGNALS.get(name)
    return told is not None and told.is_expected


def untold(trials: Sequence[Judged]) -> Iterator[str]:
    """Collectors that told of no BPF programs: what those take, if there are some, is not known."""
    found: dict[tuple[str, str], None] = {}
    for judged in trials:
        counted = {
            metric: {v.labels["collector"] for v in judged.record.values if v.metric == metric}
            for metric in ("metered_events", "bpf_run_count")
        }
        silent = counted["metered_events"] - counted["bpf_run_count"] if judged.usable else ()
        found |= {(judged.record.trial.workload, name): None for name in sorted(silent)}
    for workload, name in found:
        yield (
            f"{workload}: {name} told of no BPF programs. If it has some, their time is missing "
            "from its bill."
        )


def beside(trials: Sequence[Judged]) -> Iterator[str]:
    """Requests that were told of the service's other ports: they are not in the coverage."""
    seen: dict[tuple[str, str, str], float] = defaultdict(float)
    for judged in trials:
        for value in judged.record.values if judged.usable else ():
            if value.metric == "signal_beside":
                named = value.labels["collector"], value.labels["port"]
                seen[judged.record.trial.workload, *named] += value.value
    for (workload, collector, port), count in seen.items():
        yield (
            f"{workload}: {collector} also told of {count:,.0f} requests at port {port}, another "
            "of the service's: a proxy and what is behind it, a sidecar, or calls of its own. "
            "They are not in the coverage, which is that of the measured port; what they cost is "
            "part of the cost of a request."
        )
