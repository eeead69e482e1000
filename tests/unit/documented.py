"""What docs/run-directory.md tells, and what a run holds beside it; for tests of real runs, too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from harness.results.about import (
    About,
    BrokenBlock,
    Capacity,
    EndedEarly,
    NotGoneOnWith,
    PublishedClaim,
    SkippedArm,
    WarmUp,
)
from harness.results.run import Run

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/run-directory.md"


def table(heading: str, after: str = "") -> set[str]:
    """First cells in backticks of the first table below a heading, or below words after it."""
    text = DOCUMENT.read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = text.split(after, 1)[1] if after else text
    found: list[str] = []
    for line in rows.splitlines():
        if line.startswith("| `"):
            found.append(line.split("`")[1])
        elif found:
            break
    return set(found)


def files() -> set[str]:
    """The names of files, as patterns."""
    return table("Files")


def strangers(run: Run) -> list[str]:
    """Files, keys, values and meters of a run that the document does not tell."""
    return list(_strangers(run))


def _nested(about: About) -> Iterator[str]:
    """Keys of what run.json lists that their records do not have."""
    listed: list[tuple[str, type, Iterable[Mapping[str, Any]]]] = [
        ("calibration", Capacity, about.calibration.values()),
        ("warmups", WarmUp, about.warmups),
        ("ended_early", EndedEarly, about.ended_early.values()),
        ("broken_blocks", BrokenBlock, about.broken_blocks),
        ("given_up", NotGoneOnWith, about.given_up),
        ("skipped_arms", SkippedArm, about.skipped_arms),
        ("claims", PublishedClaim, about.claims),
    ]
    for name, kind, items in listed:
        yield from (f"{name} {key}" for item in items for key in item
                    if key not in kind.__annotations__)  # fmt: skip


def _strangers(run: Run) -> Iterator[str]:
    for path in sorted(run.path.rglob("*")):
        parts = list(path.relative_to(run.path).parts)
        if parts[0] == "trials" and len(parts) > 1:
            parts[1] = "TRIAL"
        if path.is_file() and not any(fnmatch("/".join(parts), each) for each in files()):
            yield f"file {path.relative_to(run.path)}"
    told = table("run.json")
    yield from (f"key {key}" for key in json.loads((run.path / "run.json").read_text())
                if key not in told)  # fmt: skip
    yield from (f"run.json: {key}" for key in _nested(run.about()))
    values, extra = table("trial.json", "### Values"), table("trial.json", "`extra` may hold")
    meters = table("windows.jsonl", "| meter |")
    for record in run.records():
        name = record.trial.name
        yield from (f"{name}: key {key}" for key in record.extra if key not in extra)
        unknown = {v.metric for v in record.values} - values
        yield from (f"{name}: value {metric}" for metric in sorted(unknown))
        found = {
            re.sub(r"\[.+\]$", "[NAME]", meter)  # of a collector
            for row in run.windows(record.trial)
            for meter in row.meters
        } - meters
        yield from (f"{name}: meter {meter}" for meter in sorted(found))
