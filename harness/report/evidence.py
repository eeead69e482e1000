"""Reads what the table of claims stands on: reports, certificates, submissions; `cli` calls it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.analysis.claimed import ENTRY, Evidence
from harness.analysis.summary import summarize
from harness.collectors import subject
from harness.collectors.claim import together
from harness.errors import InputError, StoreError
from harness.model import Comparison
from harness.report import rows, stored, submission
from harness.results import certificates
from harness.results.run import Run

PUBLISHED, SUBMISSIONS = "published", "submissions"


def kept(reports: Path) -> list[Evidence]:
    """What is published below a folder of reports, and what others submitted there."""
    published = [
        file if file.name == certificates.FILE else file.parent
        for name in ("report.json", certificates.FILE)
        for file in sorted((reports / PUBLISHED).glob(f"*/{name}"))
    ]
    submitted = sorted((reports / SUBMISSIONS).glob(f"*{submission.SUFFIX}"))
    return [read(path) for path in (*published, *submitted)]


def read(path: Path) -> Evidence:
    """What one path holds; InputError or StoreError if that is no run, report or submission."""
    if path.name.endswith(submission.SUFFIX):
        return of_submission(submission.read(path), path)
    if path.name == certificates.FILE:
        return of_certificate(certificates.read(path), path)
    if (path / "trials").is_dir():
        return of_report(rows.document(summarize(Run.open(path))), path)
    file = path / "report.json" if path.is_dir() else path
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        why = "It is no report: there is no JSON in it."
        if isinstance(error, OSError):
            why = f"{error.strerror}."
        next_step = "Give a run's folder, or a submission."
        raise InputError(f"{file} cannot be read.", why, next_step) from error
    return of_report(found, file.parent)


def unobtainable() -> dict[str, str]:
    """Why nobody can have a collector here, by its name."""
    found = {name: subject.load(name).subject for name in subject.names()}
    return {
        name: each.source.why
        for name, each in found.items()
        if each is not None and each.source.why
    }


def of_report(document: Mapping[str, Any], folder: Path) -> Evidence:
    """A report.json; StoreError if it is not whole, or of another schema."""
    told = stored.of_document(document, folder)  # which checks it, too
    try:
        return Evidence(
            folder.name, _link(folder, "report.md"), "run", str(document["started"]),
            told.version, int(document.get("statistics", 1)),
            submission.target(document["command"]),
            submission.machine(told.facts),
            {
                arm["name"]: (together(arm["collectors"]), arm["method"])
                for arm in document["arms"] if not arm["against"]
            },
            tuple(told.rows.values()), told.complete, told.rates,
            frozenset((e["workload"], e["arm"]) for e in document.get("without_events", ())),
            frozenset((e["workload"], e["arm"]) for e in document.get("harms", ()) if e["certain"]),
            shlex.join(document["command"]),
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"{folder} is not a whole report.", repr(error), "Make it again: harness report RUN."
        ) from error


def of_certificate(found: Mapping[str, Any], path: Path) -> Evidence:
    """A machine's certificate, of which the cost of entering programs is taken."""
    entry = found.get("entry_ns") or {}
    workload = str(found.get("workload", ""))
    costs = tuple(
        Comparison(
            workload, ENTRY, f"{ENTRY}[{hook}]", "ns", each["entry_ns"], each["low"],
            each["high"], each["n"], float("nan"), float("nan"), "calibrated",
        )
        for hook, each in entry.items()
    )  # fmt: skip
    link = f"{path.parent.name}/{path.name}"
    return Evidence(
        path.parent.name, link, "certificate", str(found.get("made", "")),
        str(found.get("version", "")), 0, submission.target(found.get("command", ())),
        submission.machine(found.get("facts") or {}), {ENTRY: ("entry", "")}, costs,
        command=shlex.join(found.get("command", ())),
    )  # fmt: skip


def of_submission(found: Mapping[str, Any], path: Path) -> Evidence:
    """A submission that was checked."""
    pairs = {
        name: frozenset((each[0], each[1]) for each in found[name]) for name in ("silent", "harmed")
    }
    arms = {name: (each["collectors"], each["method"]) for name, each in found["arms"].items()}
    return Evidence(
        path.name.removesuffix(submission.SUFFIX), f"../{SUBMISSIONS}/{path.name}", "submission",
        found["began"], found["version"], found["statistics"], found["target"], found["machine"],
        arms, tuple(stored.comparison(row) for row in found["figures"]), True, found["rates"],
        pairs["silent"], pairs["harmed"],
    )  # fmt: skip


def _link(folder: Path, file: str) -> str:
    return f"{folder.name}/{file}"
