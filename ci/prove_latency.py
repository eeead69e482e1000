"""How often the intervals of latency hold an effect that is known, on the requests of stored runs.

    .venv/bin/python ci/prove_latency.py RUN [RUN...] --output FILE.md

RUN is a run with its raw requests (`trials/*/requests.npz`), or a calibration, of which the noise
run and the baselines are taken. Windows are cut anew from the time that was measured, each four get
a coin, a known time is added to the requests due in those called on, and the product's estimator
follows. Whatever the requests have in common, stalls among it, stays as it was; what collectors did
to them is noise that knows nothing of the new coins. No machine is needed. What this cannot show is
that a machine returns what a collector adds: the calibration does that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.analysis import latency, percentiles, trust
from harness.analysis.latency import Requests, Sample
from harness.analysis.metrics import PERCENTILES
from harness.model import BASELINE, Window, WindowRow
from harness.results.run import Run

TOLD = ("p50", "p99", "p99_9")
ADDED = (0.0, 0.1)  # of the percentile
SHAPES = ((2, 9.0), (4, 27.0), (12, 27.0))  # blocks, and seconds of each
SECONDS, GUARD = 0.05, 0.006


@dataclass(frozen=True)
class Stretch:
    """What was measured of one process: its requests of the main route, and from when to when."""

    requests: Requests
    start_ns: int
    end_ns: int

    def cut(self, seconds: float, random: np.random.Generator) -> Stretch | None:
        """So many seconds of it from a random place; None if it is shorter."""
        spare = self.end_ns - self.start_ns - int(1e9 * seconds)
        if spare < 0:
            return None
        begin = self.start_ns + int(random.integers(spare + 1))
        return replace(self, start_ns=begin, end_ns=begin + int(1e9 * seconds))


def main() -> int:
    """Draw, count, write the table."""
    options = _options()
    lines = [*_head(options)]
    for run in options.run:
        for name, found in stretches(run).items():
            lines += _rows(f"{run.name}, {name}", found, options)
    text = "\n".join(lines) + "\n"
    if options.output:
        options.output.write_text(text)
    else:
        print(text, end="")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, nargs="+")
    parser.add_argument("--draws", type=int, default=1000, help="of each row")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def stretches(path: Path) -> dict[str, list[Stretch]]:
    """Those of a run by service; of a calibration those in which nothing was installed."""
    runs = [path / "noise", path / "injected"] if (path / "noise").exists() else [path]
    found: dict[str, list[Stretch]] = {}
    for run in map(Run.open, runs):
        for record in run.records():
            trial, is_calibration = record.trial, len(runs) > 1
            if trial.kind != "switched" or (is_calibration and trial.arm != BASELINE):
                continue
            rows = run.windows(trial)
            log = Requests.load(run.path / "trials" / trial.name / "requests.npz")
            route = run.about().primary_routes.get(trial.workload, "")
            mine = log.of(route) if route in log.route else log
            ends = rows[0].window.start_ns, rows[-1].window.end_ns
            found.setdefault(trial.workload, []).append(Stretch(mine, *ends))
    return found


def draw(parts: Sequence[Stretch], random: np.random.Generator) -> Sample:
    """Windows of these stretches, a block each, with new coins: off-on-on-off or its mirror."""
    return latency.join([_attributed(part, i, random) for i, part in enumerate(parts)])


def _attributed(part: Stretch, block: int, random: np.random.Generator) -> Sample:
    length, guard = int(1e9 * SECONDS), int(1e9 * GUARD)
    n = (part.end_ns - part.start_ns) // length // 4
    first = random.random(n) < 0.5
    states = np.column_stack([first, ~first, ~first, first]).ravel()
    rows = [
        WindowRow(Window(i, i // 4, bool(on), begin + guard, begin + length), {})
        for i, on in enumerate(states)
        if (begin := part.start_ns + i * length) >= 0
    ]
    return latency.attribute(part.requests, rows, block)


def with_effect(sample: Sample, us: float) -> Sample:
    """The same where each request of an on window takes so much longer."""
    longer = sample.latency_ns + np.int64(1e3 * us) * sample.on
    return replace(sample, latency_ns=np.where(sample.latency_ns < latency.NEVER_NS, longer,
                                               sample.latency_ns))  # fmt: skip


def _rows(name: str, found: Sequence[Stretch], options: argparse.Namespace) -> Iterator[str]:
    for blocks, seconds in SHAPES:
        random = np.random.default_rng([options.seed, blocks])
        usable = [s for s in found if s.cut(seconds, random) is not None]
        if not usable:
            continue
        told: dict[tuple[str, float], list[tuple[bool, float, float]]] = {}
        for _ in range(options.draws):
            picks = [usable[int(random.integers(len(usable)))] for _ in range(blocks)]
            parts = [part for s in picks if (part := s.cut(seconds, random)) is not None]
            sample = draw(parts, random)
            for metric in TOLD:
                _one(sample, metric, told)
        for (metric, share), each in told.items():
            yield _line(name, blocks, seconds, metric, share, each, options.draws)


def _one(
    sample: Sample, metric: str, told: dict[tuple[str, float], list[tuple[bool, float, float]]]
) -> None:
    """Whether the interval holds what was added, its width in us and its p; of what has a row."""
    q = PERCENTILES[metric]
    level = float(np.quantile(sample.latency_ns, q)) / 1e3
    for share in ADDED:
        into = told.setdefault((metric, share), [])
        us = round(share * level, 3)
        part = latency.within(with_effect(sample, us), q)
        shift = None if part.too_long else percentiles.shift(part.sample, q)
        if shift is not None and np.isfinite(shift.value.low):
            value = shift.value
            into.append((value.low <= us <= value.high, value.high - value.low, shift.p))


def _line(
    name: str,
    blocks: int,
    seconds: float,
    metric: str,
    share: float,
    each: Sequence[tuple[bool, float, float]],
    draws: int,
) -> str:
    held = trust.share(sum(h for h, _, _ in each), len(each))
    width = f"{np.median([w for _, w, _ in each]):,.1f}" if each else ""
    alarm = f"{100 * np.mean([p < 0.05 for *_, p in each]):.1f}" if each and not share else ""
    shown = f"{100 * held.share:.1f} [{100 * held.low:.1f}, {100 * held.high:.1f}]" if each else ""
    return (
        f"| {name} | {blocks} x {seconds:g} s | {metric.replace('_', '.')} | {100 * share:g} % "
        f"| {100 * len(each) / draws:.0f} | {shown} | {width} | {alarm} |"
    )


def _head(options: argparse.Namespace) -> Iterator[str]:
    yield "# Coverage of the intervals of latency, on stored requests"
    yield ""
    yield (
        f"{options.draws} draws a row from the requests of stored runs: stretches from random "
        f"places, windows of {1e3 * SECONDS:g} ms of which the first {1e3 * GUARD:g} ms are not "
        "metered, and for each four windows a new coin. *added*: to each request that was due in "
        "an on window, as a share of the percentile; the truth is exact. *rows*: in how many draws "
        "the percentile has a row at all; *held*: of these, how many 95 % intervals hold the "
        "truth, with the exact interval of that share as if draws shared no requests; *width*: "
        "median, us; *p < 5 %*: where nothing was added. Made by "
        f"`ci/{Path(__file__).name}`, which needs no machine; processes differ by what they "
        "differed by, since nothing else but the coin makes on and off."
    )
    yield ""
    yield "| run, service | blocks | | added | rows, % | held, % [95 %] | width, us | p < 5 %, % |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"


if __name__ == "__main__":
    sys.exit(main())
