"""Writes a run's report: report.html, report.md, report.json and the long table; `cli` calls it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.summary import Summary, summarize
from harness.errors import StoreError
from harness.report import html, markdown, rows
from harness.results.run import Run


@dataclass(frozen=True)
class BuiltReport:
    """Where the report is, and the summary that it shows."""

    html: Path
    markdown: Path
    json: Path
    measurements: Path
    summary: Summary


def build(run: Run) -> BuiltReport:
    """Write the report into the run directory; StoreError if that is full or holds no trials."""
    if not (run.path / "trials").is_dir():
        raise StoreError(
            f"{run.path} holds no trials to report on.",
            "Of published runs only the report is kept, and it would be lost.",
            "Read its report.md or report.html, or make a run of your own.",
        )
    summary = summarize(run)
    return BuiltReport(
        html=run.write_text("report.html", html.page(run, summary)),
        markdown=run.write_text("report.md", markdown.text(summary)),
        json=run.write_text("report.json", json.dumps(rows.document(summary), indent=1) + "\n"),
        measurements=run.write_measurements(),
        summary=summary,
    )
