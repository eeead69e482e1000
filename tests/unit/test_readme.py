"""Tables of README and docs/others.md are those of the published runs, as today's code says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.model import Comparison
from harness.plan import experiment
from harness.report import wording

ROOT = Path(__file__).resolve().parents[2]
OTHERS = [
    "python-agents", "newrelic", "java-agents", "node-agents", "python-profilers",
    "java-profilers", "tools",
]  # fmt: skip
PROBES = {"connections": " probes", "executions": " probes"}


def table(run: Path) -> str:
    """The rows of a published run as README shows them."""
    told = json.loads((run / "report.json").read_text())["rows"]
    found = {(each["workload"], each["arm"], each["metric"]): _row(each) for each in told}
    e = experiment.from_dict(json.loads((run / "run.json").read_text())["experiment"])
    lines = [
        [workload if arm is e.arms[0] else "", *_cells(found, workload, arm.name, arm.collectors)]
        for workload in e.workloads
        for arm in e.arms
    ]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "|  |") for cells in lines)


def _row(told: dict[str, object]) -> Comparison:
    numbers = {key: float("nan") if value is None else value for key, value in told.items()}
    return Comparison(**numbers)  # type: ignore[arg-type]


def _cells(
    found: dict[tuple[str, str, str], Comparison], workload: str, arm: str, names: tuple[str, ...]
) -> Iterator[str]:
    cost = found[workload, arm, "workload_cpu_us"]
    doubt = " in these processes" if wording.only_here(cost) else ""
    doubt = " unresolved" if names and not wording.resolved(cost) else doubt
    yield f"all ({len(names)} together)" if len(names) > 1 else arm if names else "nothing (A/A)"
    centre = wording.number(cost.estimate, wording.places(cost), signed=True)
    yield f"{centre} {wording.interval(cost)}{doubt}"
    yield wording.plain(cost.mde)
    for metric, unit in (("bill_us", "µs"), ("bill_percent", "%"), ("agent_memory_mb", "MB")):
        row = found.get((workload, arm, metric))
        spread = f" {wording.interval(row)}" if row and metric == "bill_us" else ""
        yield f"{wording.plain(row.estimate)} {unit}{spread}".removesuffix(", 95 %") if row else ""


@pytest.mark.parametrize("name", ["quick", "standard"])
def test_the_tables_are_those_of_the_published_runs(name: str) -> None:
    readme = (ROOT / "README.md").read_text()
    expected = table(ROOT / "reports/published" / name)
    assert expected in readme, f"README should say:\n{expected}"


def agents(run: Path) -> str:
    """The rows of a published run of others' collectors: what each costs, and what it saw."""
    told = json.loads((run / "report.json").read_text())["rows"]
    found = {(each["arm"], each["metric"]): _row(each) for each in told}
    e = experiment.from_dict(json.loads((run / "run.json").read_text())["experiment"])
    lines = [list(_told(found, arm.name)) for arm in e.arms if arm.collectors]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _told(found: dict[tuple[str, str], Comparison], arm: str) -> Iterator[str]:
    yield arm
    for metric in ("workload_cpu_us", "workload_cpu_percent", "latency_p50_us"):
        row = found[arm, metric]
        doubt = " in these processes" if wording.only_here(row) else ""
        doubt = doubt if wording.resolved(row) else " unresolved"
        centre = wording.number(row.estimate, wording.places(row), signed=True)
        yield f"{centre} {wording.interval(row)}{doubt}"
    whole = found[arm, "bill_us"]
    yield f"{wording.plain(whole.estimate)} {wording.interval(whole)}".removesuffix(", 95 %")
    yield f"{wording.plain(found[arm, 'agent_memory_mb'].estimate)} MB"
    for signal in ("requests", "samples"):
        if seen := found.get((arm, f"coverage_percent[{signal}]")):
            yield f"{wording.plain(seen.estimate)} % of {signal}"
            return
    events = found.get((arm, "events_per_request"))
    yield f"{wording.plain(events.estimate)} events a request" if events else "not counted"


@pytest.mark.parametrize("name", OTHERS)
def test_what_other_peoples_collectors_cost_is_that_of_the_published_runs(name: str) -> None:
    page = (ROOT / "docs/others.md").read_text()
    expected = agents(ROOT / "reports/published" / name)
    assert expected in page, f"docs/others.md should say:\n{expected}"
    assert f"(../reports/published/{name}/report.md)" in page


@pytest.mark.parametrize("name", OTHERS)
def test_how_long_that_took_and_of_what_it_was_are_those_of_the_runs(name: str) -> None:
    """The minutes, and the CPU of a request without a collector in the arms of the run."""
    folder = ROOT / "reports/published" / name
    page = (ROOT / "docs/others.md").read_text()
    told = page.partition(f"(../reports/published/{name}/report.md)")[0].rpartition("\n\n")[2]
    (minutes,) = re.findall(r"(\d+) minutes", told)
    assert int(minutes) == round(
        json.loads((folder / "run.json").read_text())["spent_seconds"] / 60
    )
    least, most = re.findall(r"of (\d+)(?: to (\d+))? µs", told)[0]
    rows = json.loads((folder / "report.json").read_text())["rows"]
    levels = [row["level"] for row in rows if row["metric"] == "workload_cpu_us"]
    assert min(levels) == pytest.approx(int(least), rel=0.05)
    assert max(levels) == pytest.approx(int(most or least), rel=0.05)


def test_readme_has_the_first_of_these_tables() -> None:
    assert agents(ROOT / "reports/published" / OTHERS[0]) in (ROOT / "README.md").read_text()
