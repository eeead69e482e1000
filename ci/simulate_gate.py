"""The gate's operating characteristic on the noise of a stored run; no machine is needed.

    .venv/bin/python ci/simulate_gate.py reports/published/standard --output curve.md

Windows in which nothing was attached are taken as they were measured, in their order; each four get
a coin; an effect of known size is added to the half that is called on; the product's estimator and
its verdict follow. What this cannot show is that a machine returns the effect: ci/prove_gate.py
does that.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.analysis import compare, hierarchy, switched, trust, verdicts
from harness.analysis.compare import Estimate
from harness.model import Window, WindowRow

EFFECTS = (0.0, 0.5, 0.9, 1.0, 1.1, 2.0)  # % of the service's CPU per request
METRICS = {"workload_cpu_percent": "cpu.workload", "bpf_difference_us": "bpf.run"}
Name = tuple[str, str, int, str]  # workload, arm, block, trial
Rows = list[WindowRow]
WINDOW_NS = 50_000_000  # between windows, for the drift: only their order is stored


@dataclass(frozen=True)
class Noise:
    """A metric's windows of nothing: each trial's, by block; how many quadruples a run has in each
    block; the CPU's level, us.
    """

    nulls: Mapping[int, Sequence[Rows]]
    each: int
    level: float

    def draw(self, random: np.random.Generator, between: float) -> dict[int, Rows]:
        """One run of nothing: in each block consecutive windows, called on and off by new coins.

        Processes differ by `between` percent of the level (standard deviation).
        """
        drawn = {}
        for block in self.nulls:
            source = self.nulls[int(random.choice(list(self.nulls)))]
            own = random.normal(0, between) * self.level / 100
            drawn[block] = _tossed(_stretch(source, 4 * self.each, random), own, random)
        return drawn


def main() -> int:
    """Read the noise, draw runs, write the table."""
    options = _options()
    windows = dict(_windows(options.run))
    lines = list(_head(options))
    for metric in options.metric:
        noise = _noise(windows, metric, options)
        counts = _counts(noise, metric, options)
        lines += _table(metric, noise, counts, options)
    text = "\n".join(lines) + "\n"
    if options.output:
        options.output.write_text(text)
    else:
        print(text, end="")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="a folder with measurements.jsonl.gz")
    parser.add_argument("--effects", type=float, nargs="+", default=list(EFFECTS), metavar="%")
    parser.add_argument("--metric", nargs="+", choices=METRICS, default=list(METRICS))
    parser.add_argument("--limit", type=float, default=1.0, metavar="%", help="of the budget")
    parser.add_argument("--workload", default="go")
    parser.add_argument("--arm", default="http", help="whose programs' time is the noise")
    parser.add_argument(
        "--between", type=float, default=0.0, metavar="%", help="by which processes differ (sd)"
    )
    parser.add_argument("--draws", type=int, default=1000, help="runs of each effect")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def _windows(run: Path) -> Iterator[tuple[Name, list[WindowRow]]]:
    """Every trial's windows, by workload, arm, block and name."""
    found: dict[Name, dict[int, tuple[bool, int, dict[str, float]]]] = defaultdict(dict)
    with gzip.open(run / "measurements.jsonl.gz", "rt") as lines:
        for line in lines:
            row = json.loads(line)
            if row["window"] is None or row["metric"] not in (*METRICS.values(), "requests"):
                continue
            at = row["workload"], row["arm"], row["block"], row["trial"]
            labels = row["labels"]
            empty: dict[str, float] = {}
            known = (labels["state"] == "on", int(labels["quadruple"]), empty)
            found[at].setdefault(row["window"], known)[2][row["metric"]] = row["value"]
    for trial, windows in found.items():
        yield (
            trial,
            [
                WindowRow(Window(i, quadruple, on, 0, 0), meters)
                for i, (on, quadruple, meters) in sorted(windows.items())
            ],
        )


def _noise(
    windows: Mapping[Name, list[WindowRow]], metric: str, options: argparse.Namespace
) -> Noise:
    """Of CPU the off windows of every switched trial; of programs the slices of one arm."""
    meter = METRICS[metric]
    nulls: dict[int, list[Rows]] = defaultdict(list)
    sizes: list[int] = []
    for (workload, arm, block, trial), rows in windows.items():
        is_switched = "-switched" in trial
        if workload != options.workload or is_switched != (metric == "workload_cpu_percent"):
            continue
        if not is_switched and arm != options.arm:
            continue
        of_all = not is_switched or arm == "baseline"
        told = [
            WindowRow(r.window, {**r.meters, "cpu.workload": r.meters[meter]})
            for r in rows
            if (of_all or not r.window.on) and meter in r.meters and r.meters.get("requests")
        ]
        nulls[block].append(told)
        sizes.append(len(rows) // 4)
    if not nulls:
        sys.exit(f"The run has no windows of {options.workload} for {metric}.")
    level = [
        1e6 * r.meters["cpu.workload"] / r.meters["requests"]
        for (workload, _, _, _), rows in windows.items() if workload == options.workload
        for r in rows if not r.window.on and r.meters.get("requests") and "cpu.workload" in r.meters
    ]  # fmt: skip
    return Noise(nulls, int(np.median(sizes)), float(np.median(level)))


def _stretch(source: Sequence[Rows], n: int, random: np.random.Generator) -> Rows:
    """`n` windows from random places of a block's trials, in their order."""
    drawn: Rows = []
    while (missing := n - len(drawn)) > 0:
        trial = source[int(random.integers(len(source)))]
        take = min(missing, len(trial))
        begin = int(random.integers(len(trial) - take + 1))
        drawn += trial[begin : begin + take]
    return drawn


def _tossed(rows: Rows, own: float, random: np.random.Generator) -> Rows:
    """Off-on-on-off or its mirror by a coin for each four; `own` us a request more when on."""
    told = []
    for i, row in enumerate(rows):
        if i % 4 == 0:
            first = bool(random.random() < 0.5)
        on = first == (i % 4 in (0, 3))
        paid = row.meters["cpu.workload"] + on * own * row.meters["requests"] / 1e6
        window = Window(i, i // 4, on, i * WINDOW_NS, (i + 1) * WINDOW_NS)
        told.append(WindowRow(window, {**row.meters, "cpu.workload": paid}))
    return told


def _estimated(drawn: Mapping[int, Rows], metric: str) -> Estimate:
    """As the product estimates it: CPU from windows, time in programs from quadruples."""
    if metric == "workload_cpu_percent":
        each = [switched.windows(rows, ("cpu.workload",), block=b) for b, rows in drawn.items()]
        return switched.combine(switched.join(each))
    parts = [compare.quadruples(rows, ("cpu.workload",), block=b) for b, rows in drawn.items()]
    return hierarchy.combine(compare.join(parts))


def _counts(noise: Noise, metric: str, options: argparse.Namespace) -> Mapping[float, Counter[str]]:
    """How often each verdict is reached, by effect; every effect on the same draws of noise.

    An effect that is the same everywhere moves the estimate and both ends by itself.
    """
    random = np.random.default_rng(options.seed)
    counts: dict[float, Counter[str]] = {effect: Counter() for effect in options.effects}
    for _ in range(options.draws):
        found = _estimated(noise.draw(random, options.between), metric)
        for effect, count in counts.items():
            added = effect * noise.level / 100
            low, high = (100 * (end + added) / noise.level for end in (found.low, found.high))
            count[verdicts.decide(low, high, -math.inf, options.limit)] += 1
    return counts


def _head(options: argparse.Namespace) -> Iterator[str]:
    yield "# The gate's operating characteristic, simulated"
    yield ""
    yield (
        f"**Simulated**, not measured: {options.draws} made-up runs an effect. Their noise is "
        f"that of the {options.workload} service in the stored run `{options.run.name}`: windows "
        "in which nothing was attached (of programs: slices of metered trials, all on), in their "
        "order, with new coins. The effect is added to half of them, the same in each process"
        + (f" but for a standard deviation of {options.between:g} %" if options.between else "")
        + f". The budget allows {options.limit:g} % of the service's CPU per request; intervals "
        f"are of 95 %. Made by `ci/{Path(__file__).name}`, which needs no machine. That a machine "
        "returns what was added is not shown here: `ci/prove_gate.py` and the calibration do."
    )


def _table(
    metric: str, noise: Noise, counts: Mapping[float, Counter[str]], options: argparse.Namespace
) -> Iterator[str]:
    blocks = len(noise.nulls)
    yield ""
    yield f"## `{metric}`"
    yield ""
    yield (
        f"{blocks} blocks of {noise.each} quadruples; the service takes {noise.level:.1f} us of "
        "CPU a request."
    )
    yield ""
    yield "| effect, % | pass, % | inconclusive, % | fail, % | decided wrongly, % [95 %] |"
    yield "| --- | --- | --- | --- | --- |"
    for effect, count in counts.items():
        n = sum(count.values())
        shares = [f"{100 * count[o] / n:.1f}" for o in ("pass", "inconclusive", "fail")]
        # at the limit itself the budget is just kept, and a fail is wrong; a pass would be as rare
        wrong = trust.share(count["fail"] if effect <= options.limit else count["pass"], n)
        told = f"{100 * wrong.share:.1f} [{100 * wrong.low:.1f}, {100 * wrong.high:.1f}]"
        yield f"| {effect:g} | {' | '.join(shares)} | {told} |"


if __name__ == "__main__":
    sys.exit(main())
