"""Puts versions that cost a known share more through the gate, N times each, and writes a table.

    .venv/bin/python ci/prove_gate.py --runs 20 --output gate-proof.md
    .venv/bin/python ci/prove_gate.py --effects 0 0.5 0.9 1 1.1 2 --metric workload_cpu_percent \
        --experiment experiments/standard.toml

As root, on a machine that does nothing else; about a minute a run of ci/regression.toml. It can be
stopped and called again: runs that were finished are kept and judged again, one that was
interrupted is set aside and made anew. Exit code 0 if nothing was decided wrongly and every effect
that is a limit or more away from the limit was decided, 1 otherwise. What needs no machine:
simulate_gate.py.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.analysis import hierarchy, injection
from harness.linux import processes
from harness.results.run import Run

CI = Path(__file__).resolve().parent
EXPERIMENT, BUDGET = CI / "regression.toml", CI / "regression-budget.toml"
LIMIT = 1.0  # % of the service's CPU per request, in the budget of either metric
METRICS = {"bpf_difference_us": "max_percent", "workload_cpu_percent": "max"}
CODES = {"pass": 0, "fail": 1, "inconclusive": 3}
NOTHING = (math.nan, "", "", "", math.nan, math.nan, math.nan)  # of a Row without a verdict


@dataclass(frozen=True)
class Row:
    """One run: what was asked for, what the gate said, and the figures that it judged."""

    name: str
    effect: float
    ns: int
    outcome: str
    code: int
    seconds: float
    judged: str
    limit: str
    cpu: str
    cpu_percent: float
    burnt_us: float  # a request, by the injecting program's own clock
    level_us: float

    @property
    def truth(self) -> float:
        """The share that was burnt in truth, %: what was asked for where it is not known."""
        found = 100 * self.burnt_us / self.level_us
        return found if math.isfinite(found) else self.effect

    @property
    def right(self) -> bool:
        """It was judged as it must be; near the limit it may be inconclusive."""
        may = {wanted(self.truth)} if far(self.effect) else {wanted(self.truth), "inconclusive"}
        may |= {"pass", "fail", "inconclusive"} if self.effect == LIMIT else set()
        return self.outcome in may and self.code == CODES[self.outcome]


def wanted(effect: float) -> str:
    """What a budget of LIMIT says of it in truth."""
    return "pass" if effect <= LIMIT else "fail"


def far(effect: float) -> bool:
    """Whether so short a run must decide it."""
    return abs(effect - LIMIT) >= LIMIT


def main() -> int:
    """Size the slowdowns, run every one, write the table."""
    options = _options()
    options.reports.mkdir(parents=True, exist_ok=True)
    sizes = _sized(options)
    _say(f"{sizes.level:.1f} us a request, {sizes.events:.2f} burns each")
    rows: list[Row] = []
    for number in range(1, options.runs + 1):
        for effect in options.effects[:: 1 if number % 2 else -1]:
            row = _row(options, effect, number, sizes.ns(effect))
            rows.append(row)
            _say(f"{row.name}: {row.outcome} ({row.code}), {row.judged}, {row.seconds:.0f} s")
            options.output.write_text("\n".join(_text(rows, sizes, options)) + "\n")
    return 0 if all(row.right for row in rows) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20, help="of each effect")
    parser.add_argument("--effects", type=float, nargs="+", default=[2.0, 0.0], metavar="%")
    parser.add_argument("--metric", choices=METRICS, default="bpf_difference_us")
    parser.add_argument("--experiment", type=Path, default=EXPERIMENT)
    parser.add_argument("--reports", type=Path, default=Path("reports/gate-proof"))
    parser.add_argument("--output", type=Path, default=Path("reports/gate-proof/gate-proof.md"))
    return parser.parse_args()


@dataclass(frozen=True)
class Sizes:
    """The service's level (us a request), and how often the injecting program burns for each."""

    level: float
    events: float

    def ns(self, effect: float) -> int:
        """How long each burn is to take."""
        return round(10 * effect * self.level / self.events)


def _sized(options: argparse.Namespace) -> Sizes:
    """From a run without a slowdown."""
    _evaluate(options, "sizing", 0, seed=1000)
    report = _report(options.reports, "sizing")
    level = _measured(report, "workload_cpu_us")["level"]
    # not how often it runs: it passes segments without payload untouched
    return Sizes(
        level, statistics.fmean(i.events_per_request for i in _injected(options, "sizing"))
    )


def _injected(options: argparse.Namespace, name: str) -> list[injection.Injected]:
    """What each usable trial of a run burnt, by the injecting program's own clock."""
    run = Run.open(options.reports / name)
    records = [each for each in run.records() if each.status == "ok" and each.trial.arm == "new"]
    found = (injection.truth(record, 0.0, stolen=False) for record in records)
    return [each for each in found if each]


def _row(options: argparse.Namespace, effect: float, number: int, ns: int) -> Row:
    name, reports = f"e{effect:g}-{number:02d}", options.reports
    code = _evaluate(options, name, ns, seed=round(1000 * effect) + 10_000 + number)
    if code not in (0, 3):
        return Row(name, effect, ns, "not measured", code, *NOTHING)
    judged = processes.run(
        [*_harness(), "gate", str(reports / name), "--budget", str(_budget(options)), "--json"],
        check=False,
    )
    if judged.returncode == 2:
        _say(judged.stderr)
        return Row(name, effect, ns, "not judged", 2, *NOTHING)
    said = json.loads(judged.stdout)
    (verdict,) = said["verdicts"]
    report = _report(reports, name)
    cpu = _measured(report, "workload_cpu_percent")
    most = verdict["most"]
    burnt = [each.injected_us for each in _injected(options, name)]
    return Row(
        name, effect, ns, said["outcome"], judged.returncode, _seconds(report),
        _interval(verdict), f"{most:.2f}" if most else "none", _interval(cpu),
        cpu.get("estimate") or math.nan, statistics.fmean(burnt) if burnt else math.nan,
        _measured(report, "workload_cpu_us").get("level") or math.nan,
    )  # fmt: skip


def _budget(options: argparse.Namespace) -> Path:
    """A file that limits the metric to LIMIT."""
    if options.metric == "bpf_difference_us":
        return BUDGET
    path: Path = options.reports / f"{options.metric}.toml"
    limit = f"{METRICS[options.metric]} = {LIMIT}"
    path.write_text(f'[[budget]]\nmetric = "{options.metric}"\n{limit}\narm = "new"\n')
    return path


def _evaluate(options: argparse.Namespace, name: str, ns: int, seed: int) -> int:
    """Run one evaluation unless it is there; each has a seed of its own, thus its own order."""
    reports: Path = options.reports
    report = reports / name / "report.json"
    if report.exists() and json.loads(report.read_text()).get("complete"):
        return 0
    if (reports / name).exists():
        aside = next(p for n in range(1000) if not (p := reports / f"{name}.cut{n}").exists())
        (reports / name).rename(aside)
        _say(f"{name} was interrupted before its report; it is kept as {aside.name}.")
    mine = reports / f"{name}.toml"
    text, count = re.subn(r"(?m)^seed = .*$", f"seed = {seed}", options.experiment.read_text())
    mine.write_text(text if count else f"seed = {seed}\n{text}")
    done = processes.run(
        [*_harness(), "evaluate", str(mine), "--arm", "old=http+inject:ns=0", "--arm",
         f"new=http+inject:ns={ns}", "--reports", str(reports), "--run", name, "--quiet"],
        check=False, timeout=7200,
    )  # fmt: skip
    if done.returncode:
        _say(done.stderr)
    return done.returncode


def _harness() -> list[str]:
    return [sys.executable, "-m", "harness"]


def _report(reports: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((reports / name / "report.json").read_text())
    return found


def _measured(report: dict[str, Any], metric: str) -> dict[str, Any]:
    rows = [r for r in report["rows"] if (r["arm"], r["metric"]) == ("new", metric)]
    return rows[0] if rows else {}


def _interval(row: dict[str, Any]) -> str:
    if row.get("low") is None:
        return "not measured"
    return f"{row['estimate']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"


def _seconds(report: dict[str, Any]) -> float:
    began, ended = (datetime.fromisoformat(report[key]) for key in ("started", "ended"))
    return (ended - began).total_seconds()


def _facts(reports: Path) -> str:
    facts = _report(reports, "sizing").get("facts") or {}
    return ", ".join(
        str(facts[key]) + (" CPUs" if key == "cpus_online" else "")
        for key in ("cpu_model", "cpus_online", "virtualisation", "kernel", "distribution")
        if key in facts
    )


def _text(rows: Sequence[Row], sizes: Sizes, options: argparse.Namespace) -> Iterator[str]:
    judged = "time in BPF programs" if "bpf" in options.metric else "the service's own CPU"
    yield "# The gate, put to the test"
    yield ""
    yield (
        "Two versions of one collector, `http` with an injecting program beside it, take turns in "
        "one run. The new one burns a known share more of the service's "
        f"{sizes.level:.0f} us of CPU a request, in {sizes.events:.2f} burns a request, and tells "
        "how long those took by its own clock. The "
        f"budget allows {LIMIT:g} %, and what it judges is **{judged}** (`{options.metric}`). Made "
        f"by `ci/{Path(__file__).name}` on {_facts(options.reports)}."
    )
    yield ""
    yield (
        "| asked, % | burnt, % (least to most) | runs | pass | inconclusive | fail "
        "| workload_cpu_percent, mean [95 %] |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for effect in sorted({row.effect for row in rows}):
        mine = [row for row in rows if row.effect == effect]
        counts = [sum(row.outcome == o for row in mine) for o in ("pass", "inconclusive", "fail")]
        truths = [row.truth for row in mine]
        burnt = f"{statistics.fmean(truths):.2f} ({min(truths):.2f} to {max(truths):.2f})"
        cells = [f"{effect:g}", burnt, len(mine), *counts, _pooled(mine)]
        yield f"| {' | '.join(map(str, cells))} |"
    known = [row.seconds for row in rows if math.isfinite(row.seconds)]
    if known:
        yield ""
        yield f"A run took {statistics.median(known):.0f} s (median), {max(known):.0f} s at most."
    yield ""
    yield (
        f"| run | burn, ns | burnt, us | burnt, % | verdict | exit code | {options.metric} [95 %] "
        "| at most | workload_cpu_percent [95 %] | seconds |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for row in rows:
        mark = "" if row.right else " **wrong**"
        yield (
            f"| {row.name} | {row.ns} | {row.burnt_us:.2f} | {row.truth:.2f} | {row.outcome}{mark} "
            f"| {row.code} | {row.judged} | {row.limit} | {row.cpu} | {row.seconds:.0f} |"
        )


def _pooled(rows: Sequence[Row]) -> str:
    """Mean of the service's own change over runs, with a t interval."""
    values = [row.cpu_percent for row in rows if math.isfinite(row.cpu_percent)]
    if len(values) < 2:
        return "too few runs"
    mean = hierarchy.mean_interval(values)
    return f"{mean.estimate:+.2f} [{mean.low:+.2f}, {mean.high:+.2f}]"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
