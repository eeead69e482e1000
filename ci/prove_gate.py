"""Puts a deliberate slowdown of 2 % and none through the gate, N times each, and writes a table.

    .venv/bin/python ci/prove_gate.py --pairs 20 --output gate-proof.md

As root, on a machine that does nothing else; about two minutes a pair. It can be stopped
and called again: runs that were finished are kept and judged again, one that was interrupted is set
aside and made anew. Exit code 0 if every slowdown failed and every other run passed, 1 otherwise.
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

from harness.analysis import hierarchy
from harness.linux import processes

CI = Path(__file__).resolve().parent
EXPERIMENT, BUDGET = CI / "regression.toml", CI / "regression-budget.toml"
SLOWDOWN = 0.02  # of the service's CPU per request
WANTED = {"slow": ("fail", 1), "same": ("pass", 0)}


@dataclass(frozen=True)
class Row:
    """One run: what was asked for, what the gate said, and the figures that it judged."""

    name: str
    kind: str
    ns: int
    outcome: str
    code: int
    seconds: float
    bpf: str
    limit: str
    cpu: str
    cpu_percent: float

    @property
    def right(self) -> bool:
        """It was judged as it must be."""
        return (self.outcome, self.code) == WANTED[self.kind]


def main() -> int:
    """Size the slowdown, run every pair, write the table."""
    options = _options()
    options.reports.mkdir(parents=True, exist_ok=True)
    ns, level, events = _sized(options.reports)
    _say(f"{SLOWDOWN:.0%} of {level:.1f} us a request, {events:.2f} events each: {ns} ns an event")
    rows: list[Row] = []
    for pair in range(1, options.pairs + 1):
        kinds = ("slow", "same") if pair % 2 else ("same", "slow")
        for kind in kinds:
            row = _row(options.reports, kind, pair, ns if kind == "slow" else 0)
            rows.append(row)
            _say(f"{row.name}: {row.outcome} ({row.code}), {row.bpf}, {row.seconds:.0f} s")
            facts = _facts(options.reports)
            options.output.write_text("\n".join(_text(rows, ns, level, events, facts)) + "\n")
    return 0 if all(row.right for row in rows) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=20, help="runs of each kind")
    parser.add_argument("--reports", type=Path, default=Path("reports/gate-proof"))
    parser.add_argument("--output", type=Path, default=Path("reports/gate-proof/gate-proof.md"))
    return parser.parse_args()


def _sized(reports: Path) -> tuple[int, float, float]:
    """ns an event that make the slowdown, from a run without it; the level and events a request."""
    _evaluate(reports, "sizing", 0, seed=1000)
    report = _report(reports, "sizing")
    level = _measured(report, "workload_cpu_us")["level"]
    runs = [p["runs_per_request"] for p in report["programs"] if p["collector"][:6] == "inject"]
    events = statistics.fmean(runs)
    return round(1000 * SLOWDOWN * level / events), level, events


def _row(reports: Path, kind: str, pair: int, ns: int) -> Row:
    name = f"{kind}-{pair:02d}"
    code = _evaluate(reports, name, ns, seed=pair if kind == "slow" else 500 + pair)
    if code not in (0, 3):
        return Row(name, kind, ns, "not measured", code, math.nan, "", "", "", math.nan)
    judged = processes.run(
        [*_harness(), "gate", str(reports / name), "--budget", str(BUDGET), "--json"], check=False
    )
    if judged.returncode == 2:
        _say(judged.stderr)
        return Row(name, kind, ns, "not judged", 2, math.nan, "", "", "", math.nan)
    said = json.loads(judged.stdout)
    (verdict,) = said["verdicts"]
    report = _report(reports, name)
    cpu = _measured(report, "workload_cpu_percent")
    most = verdict["most"]
    return Row(
        name, kind, ns, said["outcome"], judged.returncode, _seconds(report), _interval(verdict),
        f"{most:.2f}" if most else "none", _interval(cpu), cpu.get("estimate") or math.nan,
    )  # fmt: skip


def _evaluate(reports: Path, name: str, ns: int, seed: int) -> int:
    """Run one evaluation unless it is there; each has a seed of its own, thus its own order."""
    report = reports / name / "report.json"
    if report.exists() and json.loads(report.read_text()).get("complete"):
        return 0
    if (reports / name).exists():
        aside = next(p for n in range(1000) if not (p := reports / f"{name}.cut{n}").exists())
        (reports / name).rename(aside)
        _say(f"{name} was interrupted before its report; it is kept as {aside.name}.")
    mine = reports / f"{name}.toml"
    mine.write_text(re.sub(r"(?m)^seed = .*$", f"seed = {seed}", EXPERIMENT.read_text()))
    done = processes.run(
        [*_harness(), "evaluate", str(mine), "--arm", "old=http+inject:ns=0", "--arm",
         f"new=http+inject:ns={ns}", "--reports", str(reports), "--run", name, "--quiet"],
        check=False, timeout=600,
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


def _text(rows: Sequence[Row], ns: int, level: float, events: float, facts: str) -> Iterator[str]:
    yield "# The gate, put to the test"
    yield ""
    yield (
        "Two versions of one collector, `http` with an injecting program beside it, take turns in "
        f"one run. `slow`: the new one burns {ns} ns in each of {events:.2f} runs a request, "
        f"{SLOWDOWN:.0%} of the service's {level:.0f} us of CPU a request; it must fail. `same` "
        "burns nothing, as the old one; it must pass. The budget allows 1 %, of time in BPF "
        f"programs: `{BUDGET.name}`. Made by `ci/{Path(__file__).name}` on {facts}."
    )
    yield ""
    for kind, (outcome, code) in WANTED.items():
        mine = [row for row in rows if row.kind == kind]
        right = sum(row.right for row in mine)
        yield f"- `{kind}`: {right} of {len(mine)} are {outcome} (exit code {code})."
    for kind, truth in (("slow", 100 * SLOWDOWN), ("same", 0.0)):
        yield f"- {_pooled([row for row in rows if row.kind == kind], kind, truth)}"
    known = [row.seconds for row in rows if math.isfinite(row.seconds)]
    if known:
        yield f"- A run took {statistics.median(known):.0f} s (median), {max(known):.0f} s at most."
    yield ""
    yield (
        "`workload_cpu_percent` is what the service itself shows. It is not gated here: a "
        "minute is too short for it, as its intervals say; the mean over runs is what it recovers."
    )
    yield ""
    yield (
        "| run | burnt, ns | verdict | exit code | bpf_difference_us [95 %] | at most, us "
        "| workload_cpu_percent [95 %] | seconds |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for row in rows:
        mark = "" if row.right else " **wrong**"
        yield (
            f"| {row.name} | {row.ns} | {row.outcome}{mark} | {row.code} | {row.bpf} | {row.limit} "
            f"| {row.cpu} | {row.seconds:.0f} |"
        )


def _pooled(rows: Sequence[Row], kind: str, truth: float) -> str:
    """Mean of the service's own change over runs, with a t interval, beside the truth."""
    values = [row.cpu_percent for row in rows if math.isfinite(row.cpu_percent)]
    if len(values) < 2:
        return f"`{kind}`: too few runs to pool workload_cpu_percent."
    mean = hierarchy.mean_interval(values)
    held = "contains" if mean.low <= truth <= mean.high else "does not contain"
    return (
        f"`{kind}`: workload_cpu_percent, mean over {len(values)} runs: {mean.estimate:+.2f} % "
        f"[{mean.low:+.2f}, {mean.high:+.2f}], which {held} the {truth:g} % that were burnt."
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
