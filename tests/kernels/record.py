"""What a guest left, as the small JSON that is kept of it; `test_kernels` writes, `page` reads."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from harness.linux import bpf_features
from tests.kernels.debian import ROOT, SUITES

FOLDER = ROOT / "tests" / "cases" / "kernels"


def of(results: Path, suite: str) -> dict[str, Any]:
    """The rows by kind, the doctor's words on hooks, and what pytest said, if it ran there."""
    lines = (results / "rows.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    machine = next(row for row in rows if row["kind"] == "machine")
    findings: list[dict[str, Any]] = next(
        (row.get("findings", []) for row in rows if row["kind"] == "doctor"), []
    )
    return {
        "distribution": SUITES[suite],
        "release": machine["release"],
        "security": machine["security"],
        "hooks": [_without_kind(row) for row in rows if row["kind"] == "hook"],
        "cases": [_without_kind(row) for row in rows if row["kind"] == "case"],
        "doctor": {
            each["name"]: each["detail"] if each["status"] != "pass" else ""
            for each in findings
            if each["name"] in bpf_features.PROBES
        },
        "tests": _tests(results / "tests.xml"),
    }


def write(suite: str, record: dict[str, Any]) -> None:
    """Keep it."""
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps(record, indent=1, ensure_ascii=False)
    (FOLDER / f"{suite}.json").write_text(text + "\n")


def kept() -> dict[str, dict[str, Any]]:
    """All that are kept, by suite, the oldest first."""
    paths = [FOLDER / f"{suite}.json" for suite in SUITES]
    return {path.stem: json.loads(path.read_text()) for path in paths if path.exists()}


def _without_kind(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "kind"}


def _tests(report: Path) -> dict[str, Any]:
    """How many passed, and the names of those that failed or were skipped, with the reason."""
    if not report.exists():
        return {}
    told: dict[str, Any] = {"passed": 0, "failed": [], "skipped": []}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        bad = next((each for each in case if each.tag in ("failure", "error")), None)
        skipped = case.find("skipped")
        if bad is not None:
            told["failed"].append([name, (bad.get("message") or "").split("\n")[0][:200]])
        elif skipped is not None:
            told["skipped"].append([name, skipped.get("message") or ""])
        else:
            told["passed"] += 1
    return told
