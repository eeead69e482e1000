"""Puts two estimators to the same windows: a calibration's, and those of published runs.

python ci/compare_estimators.py CALIBRATION [PUBLISHED...]: prints the tables of docs/adr/0019, by
the rule that is written down there. CALIBRATION is a folder of `harness calibrate` (with noise/ and
injected/), PUBLISHED folders with measurements.jsonl.gz.
"""

from __future__ import annotations

import gzip
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats

from harness.analysis import (
    calibration,
    compare,
    effects,
    hierarchy,
    injection,
    noise,
    summary,
    switched,
)
from harness.analysis.compare import Estimate
from harness.analysis.hierarchy import Within
from harness.model import Window, WindowRow
from harness.plan.calibration import COMPARISON_SECONDS
from harness.results.run import Run

Rows = Sequence[WindowRow]
Estimator = Callable[[Rows, int], Within]
METER = ("cpu.workload",)
REDRAWN = 1000
SHARES = (0.3, 0.5, 1.0, 3.0)  # per cent of a request that are added to published windows


def quadruples(rows: Rows, block: int) -> Within:
    """Hodges-Lehmann over quadruples."""
    return hierarchy.within(compare.quadruples(rows, METER, block=block))


def windows(rows: Rows, block: int) -> Within:
    """Robust regression on windows."""
    return hierarchy.of(effects.fit(switched.windows(rows, METER, block=block), [[1.0]])[0])


ESTIMATORS: dict[str, Estimator] = {"HL": quadruples, "W": windows}


@dataclass(frozen=True)
class Case:
    """Windows of one process in whole quadruples, and the effect that is in them (us)."""

    name: str
    block: int
    rows: Rows
    truth: float
    level: float


def whole(rows: Rows) -> list[WindowRow]:
    """The windows of whole quadruples."""
    groups = defaultdict(list)
    for row in rows:
        groups[row.window.quadruple].append(row)
    return [row for g in groups.values() if compare.is_whole(g, METER) for row in g]


def cut(case: Case, n: int) -> list[Case]:
    """Comparisons of `n` quadruples."""
    size = 4 * n
    ends = range(size, len(case.rows) + 1, size)
    return [replace(case, rows=case.rows[end - size : end]) for end in ends]


def injected(path: Path) -> tuple[list[Case], int]:
    """The cases of a calibration, and how many quadruples 10 s hold."""
    run = Run.open(path / "injected")
    found = summary.summarize(run)
    entry = json.loads((path / "entry.json").read_text())
    known = injection.known(run, found, entry.get(calibration.HOOK, {}).get("entry_ns"))
    e = found.experiment
    cases = []
    for arm, trials in known.items():
        for t in trials:
            if math.isfinite(t.truth_us):
                rows = whole(t.rows)
                cases.append(Case(arm, t.record.trial.block, rows, t.truth_us, _level(rows)))
    return cases, max(6, round(COMPARISON_SECONDS / (4 * e.window_seconds)))


def _level(rows: Rows) -> float:
    off = [row for row in rows if not row.window.on]
    return 1e6 * float(np.median([r.meters[METER[0]] / r.meters["requests"] for r in off]))


def nothing(path: Path, cases: Sequence[Case], seconds: float) -> list[Case]:
    """A/A: baseline trials, off windows of the others, the noise run."""
    found = [case for case in cases if case.name == "baseline"]
    for i, case in enumerate(cases):
        if case.name != "baseline":
            off = [row for row in case.rows if not row.window.on]
            found.append(replace(case, name="off windows", rows=relabelled(off, i), truth=0.0))
    quiet, _, _ = calibration.quiet(Run.open(path / "noise"))
    for i, rows in enumerate(quiet):
        merged = noise.merged(rows, seconds)
        found.append(Case("noise", i, relabelled(merged, 1000 + i), 0.0, _level(merged)))
    return found


def relabelled(rows: Rows, seed: int) -> list[WindowRow]:
    """Quadruples by a coin of windows in which nothing differs."""
    first = np.random.default_rng(seed).random(len(rows) // 4) < 0.5
    states = np.column_stack([first, ~first, ~first, first]).ravel()
    return whole(
        [
            WindowRow(replace(row.window, quadruple=i // 4, on=bool(on)), row.meters)
            for i, (row, on) in enumerate(zip(rows, states, strict=False))
        ]
    )


def mirrored(rows: Rows, random: np.random.Generator) -> list[WindowRow]:
    """The same with each quadruple's states exchanged by a coin."""
    flip = np.repeat(random.random(len(rows) // 4) < 0.5, 4)
    return [
        WindowRow(replace(row.window, on=row.window.on != bool(f)), row.meters)
        for row, f in zip(rows, flip, strict=True)
    ]


def with_effect(rows: Rows, us: float) -> list[WindowRow]:
    """The same where each request of an on window costs so much more."""
    return [
        WindowRow(
            row.window,
            {**row.meters, METER[0]: row.meters[METER[0]]
             + 1e-6 * us * row.meters["requests"] * row.window.on},
        )
        for row in rows
    ]  # fmt: skip


def short(cases: Sequence[Case], n: int) -> Iterator[str]:
    """Coverage, width and error of comparisons of 10 s, by arm, and McNemar's test."""
    yield "| arm | comparisons | holds: HL | W | median width: HL | W | mean error: HL | W |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    hits: dict[str, list[bool]] = {name: [] for name in ESTIMATORS}
    for arm in dict.fromkeys(case.name for case in cases):
        parts = [part for case in cases if case.name == arm for part in cut(case, n)]
        found = {k: [f(p.rows, 0).whole for p in parts] for k, f in ESTIMATORS.items()}
        held = {k: _held(found[k], parts) for k in found}
        for k in hits:
            hits[k] += held[k] if arm == "baseline" or arm.startswith("cpu") else []
        yield (
            f"| {arm} | {len(parts)} | "
            + " | ".join(
                [f"{sum(held[k])}" for k in found]
                + [f"{np.median([e.high - e.low for e in found[k]]):.3f}" for k in found]
                + [f"{_error(found[k], parts):+.3f}" for k in found]
            )
            + " |"
        )
    both = np.array([hits["HL"], hits["W"]])
    lost, won = int(np.sum(both[0] & ~both[1])), int(np.sum(~both[0] & both[1]))
    less = stats.binomtest(lost, lost + won, 0.5, alternative="greater").pvalue if lost else 1.0
    total = both.shape[1]
    floor = stats.binomtest(int(both[1].sum()), total, 0.93, alternative="less").pvalue
    yield f"| **arms of CPU, baseline** | {total} | {both[0].sum()} | {both[1].sum()} | | | | |"
    yield f"\nMcNemar: only HL holds {lost}, only W {won}: p {less:.3f}"
    yield f"W below 93 %: p {floor:.3f}"


def _held(found: Sequence[Estimate], parts: Sequence[Case]) -> list[bool]:
    return [e.low <= p.truth <= e.high for e, p in zip(found, parts, strict=True)]


def _error(found: Sequence[Estimate], parts: Sequence[Case]) -> float:
    return float(np.mean([e.estimate - p.truth for e, p in zip(found, parts, strict=True)]))


def long(cases: Sequence[Case]) -> Iterator[str]:
    """Whole runs by arm: found less truth, in us and in per cent of a request."""
    yield "| arm | truth, us | HL | W | error %, HL | W |"
    yield "| --- | --- | --- | --- | --- | --- |"
    errors: dict[str, list[tuple[float, float]]] = {name: [] for name in ESTIMATORS}
    for arm in dict.fromkeys(case.name for case in cases):
        mine = [case for case in cases if case.name == arm]
        truth = float(np.mean([case.truth for case in mine]))
        level = float(np.mean([case.level for case in mine]))
        told, shares = [], []
        for k, estimator in ESTIMATORS.items():
            each = [estimator(case.rows, case.block).whole for case in mine]
            s = np.array([e.standard_error for e in each])
            w = s**-2 / np.sum(s**-2)
            found = float(w @ [e.estimate - case.truth for e, case in zip(each, mine, strict=True)])
            error = float(np.sum(s**-2)) ** -0.5
            told.append(f"{truth + found:.3f} +- {error:.3f}")
            shares.append(f"{100 * found / level:+.3f}")
            if arm.startswith("cpu"):
                errors[k].append((100 * found / level, 100 * error / level))
        yield f"| {arm} | {truth:.3f} | {' | '.join([*told, *shares])} |"
    for k, pairs in errors.items():
        e, s = np.array(pairs).T
        error = math.hypot(*s) / len(s)
        yield f"\n{k}: mean error of the arms of CPU {e.mean():+.3f} % +- {error:.3f}"


def alarms(nulls: Sequence[Case], n: int) -> Iterator[str]:
    """Nothing against nothing: real comparisons, and redrawn ones."""
    real = [part for case in nulls for part in cut(case, n)]
    random = np.random.default_rng(1)
    again: list[Case] = []
    while len(again) < REDRAWN:
        part = real[int(random.integers(len(real)))]
        again.append(replace(part, rows=mirrored(part.rows, random)))
    yield "| | comparisons | HL | W | p < 0.33 %: HL | W | median width: HL | W |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, parts in (("real", real), ("redrawn", again)):
        found = {k: [f(p.rows, 0) for p in parts] for k, f in ESTIMATORS.items()}
        counts = {k: sum(w.p < 0.05 for w in found[k]) for k in found}
        yield (
            f"| {name} | {len(parts)} | "
            + " | ".join(
                [f"{counts[k]} ({100 * counts[k] / len(parts):.1f} %)" for k in found]
                + [f"{sum(w.p < 0.0033 for w in found[k])}" for k in found]
                + [
                    f"{np.median([w.whole.high - w.whole.low for w in found[k]]):.3f}"
                    for k in found
                ]
            )
            + " |"
        )
        p = stats.binomtest(counts["W"], len(parts), 0.05, alternative="greater").pvalue
        yield f"|  W above 5 %: p {p:.3f} | | | | | | | |"


def published(paths: Sequence[Path], draws: int = 240) -> Iterator[str]:
    """Known effects added to the windows of published runs in which nothing differs."""
    yield (
        "| run, service | effect % | holds %: HL | W | median width %: HL | W "
        "| mean error % (in its errors): HL | W |\n|" + " --- |" * 8
    )
    total: dict[str, list[bool]] = defaultdict(list)
    scores: dict[str, list[float]] = defaultdict(list)
    for path in paths:
        by_service = defaultdict(list)
        for case in measured(path):
            by_service[case.name].append(case)
        for service, cases in by_service.items():
            for share in (0.0, *SHARES):
                told = {k: _added(cases, share, draws, f) for k, f in ESTIMATORS.items()}
                for k, each in told.items():
                    total[k] += [e.low <= share <= e.high for e in each]
                    scores[k].append(_score(each, share))
                yield f"| {path.name}, {service} | {share} | " + " | ".join(
                    [f"{100 * np.mean([e.low <= share <= e.high for e in told[k]]):.1f}"
                     for k in told]
                    + [f"{np.median([e.high - e.low for e in told[k]]):.2f}" for k in told]
                    + [f"{np.mean([e.estimate for e in told[k]]) - share:+.3f} "
                       f"({_score(told[k], share):+.1f})" for k in told]
                ) + " |"  # fmt: skip
    n = len(total["W"])
    p = stats.binomtest(sum(total["W"]), n, 0.94, alternative="less").pvalue
    shares = ", ".join(f"{k} {100 * np.mean(held):.1f} %" for k, held in total.items())
    yield f"\nof all {n}: {shares}; W below 94 %: p {p:.3f}"
    for k, score in scores.items():
        p = stats.chi2.sf(float(np.sum(np.square(score))), len(score))
        yield f"{k}: errors over their standard errors, SD {np.std(score):.2f}: p {p:.2f}"


def _score(found: Sequence[Estimate], truth: float) -> float:
    values = np.array([e.estimate for e in found]) - truth
    return float(values.mean() / values.std(ddof=1) * math.sqrt(len(values)))


def _added(cases: Sequence[Case], share: float, draws: int, estimator: Estimator) -> list[Estimate]:
    """Estimates in per cent of redrawn cases; the same redraws for each estimator."""
    random, found = np.random.default_rng(int(10 * share)), []
    for case in cases:
        for _ in range(max(1, draws // len(cases))):
            rows = with_effect(mirrored(case.rows, random), share / 100 * case.level)
            found.append(estimator(rows, 0).whole.scaled(100 / case.level))
    return found


def measured(path: Path) -> Iterator[Case]:
    """Off windows of the published trials, relabelled, and the baselines' as they were."""
    meters: dict[tuple[str, str, str, int], dict[int, dict[str, float]]] = defaultdict(dict)
    labels: dict[tuple[str, str, str, int], dict[int, dict[str, str]]] = defaultdict(dict)
    with gzip.open(path / "measurements.jsonl.gz", "rt") as lines:
        for line in lines:
            told = json.loads(line)
            if told["metric"] not in KEPT or not told["trial"].endswith("switched"):
                continue
            key = (told["workload"], told["arm"], told["trial"], told["block"])
            meters[key].setdefault(told["window"], {})[told["metric"]] = told["value"]
            labels[key][told["window"]] = told["labels"]
    for i, (key, by_window) in enumerate(sorted(meters.items())):
        rows = []
        for index, values in sorted(by_window.items()):
            label = labels[key][index]
            start, on = int(1e9 * SECONDS * index), label["state"] == "on"
            window = Window(index, int(label["quadruple"]), on, start, start + int(1e9 * SECONDS))
            rows.append(WindowRow(window, values))
        off = [row for row in rows if not row.window.on and row.meters.get("requests", 0) > 0]
        used = whole(rows) if key[1] == "baseline" else relabelled(off, i)
        if len(used) >= 40:
            yield Case(key[0], key[3], used, 0.0, _level(used))


KEPT = ("cpu.workload", "requests")
SECONDS = 0.05


def main(arguments: list[str]) -> None:
    """Print the tables."""
    path = Path(arguments[0])
    cases, n = injected(path)
    seconds = COMPARISON_SECONDS / (4 * n)
    print(f"{n} quadruples of {1e3 * seconds:g} ms\n")
    print(*short(cases, n), sep="\n", end="\n\n")
    print(*long(cases), sep="\n", end="\n\n")
    print(*alarms(nothing(path, cases, seconds), n), sep="\n", end="\n\n")
    if arguments[1:]:
        print(*published([Path(each) for each in arguments[1:]]), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
