"""The latency of a cell's routes: rows of report.json, and what windows are too short for.

`summary` calls it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.analysis import latency, percentiles, ranks
from harness.analysis.cell import PAIRED, Cell
from harness.analysis.compare import Estimate
from harness.analysis.latency import Curve, Requests, Sample, Within
from harness.analysis.metrics import PERCENTILES
from harness.analysis.percentiles import Shift
from harness.model import Comparison, WindowRow
from harness.results.run import Run, TrialRecord

COINS = "pooled quantiles, interval and p by redrawing the coins"
FEW = "Too few requests for this percentile, or they lie in too few separate stretches of time."


@dataclass(frozen=True)
class Route:
    """A route of a cell: its rows, how long its requests take, and why a percentile has no row.

    `suffix` is that of its metrics: empty for the primary route, else its name in brackets.
    `kept` is what share of the requests each row rests on, `too_long` are the percentiles for which
    windows are too short.
    """

    workload: str
    arm: str
    suffix: str
    p90_us: float
    p99_us: float
    curve: Curve
    rows: tuple[Comparison, ...] = ()
    kept: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    too_long: tuple[str, ...] = ()


def routes(run: Run, cell: Cell, primary: str = "") -> list[Route]:
    """What the requests of a cell tell; the first is the primary route, or else the busiest."""
    loaded = list(_requests(run, cell))
    counts = Counter(str(name) for _, requests, _ in loaded for name in requests.route)
    names = [name for name, _ in counts.most_common()]
    first = primary if primary in counts else next(iter(names), "")
    cut = cell.arm.method != "twin"  # a twin keeps its state, and with it what it was asked
    found = []
    for name in sorted(names, key=lambda each: each != first):
        parts = [
            latency.attribute(requests.of(name), rows, record.trial.block, cut=cut)
            for record, requests, rows in loaded
        ]
        found.append(_route(cell, "" if name == first else f"[{name}]", latency.join(parts)))
    return found


def _requests(run: Run, cell: Cell) -> Iterator[tuple[TrialRecord, Requests, Sequence[WindowRow]]]:
    for record, rows in cell.switched:
        path = run.path / "trials" / record.trial.name / "requests.npz"
        if path.exists() and rows:
            yield record, Requests.load(path), cell.states(rows)


def _route(cell: Cell, suffix: str, sample: Sample) -> Route:
    rows, kept, missing, too_long = [], {}, {}, []
    for name, q in PERCENTILES.items():
        metric, part = f"latency_{name}_us{suffix}", latency.within(sample, q)
        found = None if part.too_long else _shift(cell, part.sample, q)
        if found is not None:
            method = f"{_method(cell)}; {_basis(part)}"
            rows.append(cell.row(metric, found.value, found.level, method, found.p))
            kept[metric] = part.kept
        elif part.too_long and len(sample.on) * (1 - q) >= 2 * latency.TAIL:
            missing[metric] = _too_long(part)
            too_long.append(name)
        else:
            missing[metric] = FEW
    p90, p99 = (_us(sample, PERCENTILES[name]) for name in ("p90", "p99"))
    return Route(
        cell.workload, cell.arm.name, suffix, p90, p99, latency.curve(sample), tuple(rows), kept,
        missing, tuple(too_long),
    )  # fmt: skip


def _us(sample: Sample, q: float) -> float:
    return float(np.quantile(sample.latency_ns, q)) / 1e3 if len(sample.latency_ns) else math.nan


def _method(cell: Cell) -> str:
    return PAIRED if cell.arm.method == "block" else COINS


def _basis(part: Within) -> str:
    """What share of the requests a row rests on."""
    if part.kept == 1:
        return "of all requests that were due in a window"
    return (
        f"of {100 * part.kept:.1f} % of the requests, "
        f"those due {part.margin_ns / 1e6:.3g} ms or more before a window's end"
    )


def _too_long(part: Within) -> str:
    took, needed = part.quantile_ns / 1e6, part.quantile_ns / (1 - latency.LEAST_KEPT) / 1e6
    return (
        f"Windows are too short for it: it is {took:.3g} ms, and where so long a request ends in "
        f"the window in which it was due, fewer than half of the requests are left. Windows that "
        f"are metered for {needed:.3g} ms or more show it (window_seconds)."
    )


def _shift(cell: Cell, sample: Sample, q: float) -> Shift | None:
    if cell.arm.method == "block":
        return _paired(sample, q)
    return percentiles.shift(sample, q)


def _paired(sample: Sample, q: float) -> Shift | None:
    """A percentile's shift by its value in each trial: of coins there are too few."""
    each = [
        [sample.latency_ns[(sample.group == n) & (sample.on == on)] for on in (True, False)]
        for n in range(sample.groups)
    ]
    fewest = min((len(side) for pair in each for side in pair), default=0)
    if fewest * (1 - q) < latency.TAIL:
        return None
    on, off = (np.array([np.quantile(pair[i], q) for pair in each]) / 1e3 for i in (0, 1))
    value: Estimate = ranks.hodges_lehmann(on - off)
    return Shift(value, float(np.median(off)), ranks.signed_rank_p(on - off))
