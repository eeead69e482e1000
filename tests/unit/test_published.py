"""What is published is what today's code makes, or README says that it is not.

A report names the statistics that made it. tests/cases/statistics.json has what each published
number gives on the made-up runs, so that a change of method without a new number is seen. To
publish again: measure, keep the reports, run `python -m tests.unit.test_published` and take the
sentence on older statistics out of README.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from harness import __version__
from harness.analysis import STATISTICS
from harness.analysis.account import ARRIVED, COUNTED, PART
from harness.analysis.account import WITHIN as OWN
from harness.analysis.bill import SUMS as RARE
from harness.analysis.unseen import METHOD as UNSEEN
from harness.report import rows

ROOT = Path(__file__).resolve().parents[2]
RUNS = sorted((ROOT / "reports/published").glob("*/report.json"))
MADE_UP = ROOT / "tests/cases/report"
DIGESTS = ROOT / "tests/cases/statistics.json"
SENTENCE = "This table was made by statistics {}; today's are {}"
FIGURES = ("workload", "arm", "metric", "method", "n")
COARSE = "the counter moves by"
NUMBERS = ("estimate", "low", "high", "mde", "level", "p", "p_holm", "noise")


def document(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def number(published: dict[str, Any]) -> int:
    return int(published.get("statistics", 1))  # the first was not named


def digest() -> str:
    """What the golden reports of made-up runs say, to six digits."""
    told = [
        [*(row[key] for key in FIGURES), *(_digits(row[key]) for key in NUMBERS)]
        for path in sorted(MADE_UP.glob("*.json"))
        for row in document(path).get("rows", ())
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.parent.name)
def test_a_published_report_has_todays_schema_version_and_command(path: Path) -> None:
    found = document(path)
    assert found["schema_version"] == rows.SCHEMA_VERSION
    assert found["version"] == __version__
    assert found["complete"]
    assert f"Again: `{shlex.join(found['command'])}`" in path.with_name("report.md").read_text()
    assert found["command"][:2] == ["harness", "evaluate"]


@pytest.mark.parametrize("name", ["quick", "standard"])
def test_readme_says_by_which_statistics_a_table_was_made_if_not_by_todays(name: str) -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    made = number(document(ROOT / f"reports/published/{name}/report.json"))
    after = readme.split(f"(reports/published/{name}/report.html)", 1)[1]
    its = after.split("(reports/published/", 1)[0]
    said = re.search(r"This table was made by statistics (\d+); today's are (\d+)", its)
    if made == STATISTICS:
        assert said is None, "README calls a table old that is of today"
    else:
        assert said is not None, f"README must say: {SENTENCE.format(made, STATISTICS)}"
        assert (int(said[1]), int(said[2])) == (made, STATISTICS)


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.parent.name)
def test_a_published_report_of_todays_statistics_has_todays_methods(path: Path) -> None:
    found = document(path)
    if number(found) < STATISTICS:  # README says so
        return
    assert number(found) == STATISTICS
    known: dict[str, set[str]] = {}
    coarse: set[str] = set()
    for golden in MADE_UP.glob("*.json"):
        for row in document(golden).get("rows", ()):
            method = _plain(row["method"])
            known.setdefault(row["metric"].partition("[")[0], set()).add(method)
            if COARSE in method:  # which of the meters is depends on the machine
                coarse.add(method)
    for row in found["rows"]:
        metric = row["metric"].partition("[")[0]
        if row["method"] == RARE:  # no made-up program runs so seldom
            continue
        method = _plain(row["method"])
        assert method in known.get(metric, {method}) | coarse | WITHIN, metric


def _plain(method: str) -> str:
    """Without figures and names that differ from run to run, and what only some machines know."""
    method = re.sub(r"(, entry_us| (and|with|\+) entry_us|; of .*)", "", method)
    return re.sub(r"[\d.,]+|less those of .*", "#", method)


# no made-up run has such arms, nor programs of which no run was seen
WITHIN = {_plain(each) for each in (OWN, ARRIVED, COUNTED, PART, UNSEEN.format(1, 1.0))}


def test_statistics_that_were_published_give_what_they_gave() -> None:
    """A change of method takes a new number: harness/analysis/__init__.py."""
    kept = document(DIGESTS)
    for path in RUNS:
        assert str(number(document(path))) in kept, (
            f"{path}: run python -m tests.unit.test_published"
        )
    if str(STATISTICS) in kept:
        assert kept[str(STATISTICS)] == digest(), (
            "the statistics changed: give them a new number; or, if only the made-up runs did, run "
            "python -m tests.unit.test_published"
        )


def test_the_published_coverage_of_latency_is_what_the_docs_say_of_it() -> None:
    """And of the 99th percentile what was promised: 95 % to within 3."""
    table = (ROOT / "reports/published/latency-simulated.md").read_text()
    said = " ".join((ROOT / "docs/method.md").read_text().split())
    for name, of in (("p99", "99th percentile"), ("p50", "median")):
        held = [
            float(share) for share in re.findall(rf"\| {name} \|[^|]*\|[^|]*\| ([\d.]+) \[", table)
        ]
        assert len(held) == 24
        assert re.search(rf"of the {of} [^.]*in {min(held)} to {max(held)} %", said), (of, held)
        assert min(held) >= 92
        assert max(held) <= 98


if __name__ == "__main__":
    DIGESTS.write_text(
        json.dumps({**document(DIGESTS), str(STATISTICS): digest()}, indent=1) + "\n"
    )
