"""Makes a run's report: report.html, report.md, report.json and the long table; `cli` calls it."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.summary import Summary, summarize
from harness.errors import StoreError
from harness.report import html, markdown, rows
from harness.results.folder import writing
from harness.results.run import Run


@dataclass(frozen=True)
class BuiltReport:
    """Where the report is, and the summary that it shows."""

    html: Path
    markdown: Path
    json: Path
    measurements: Path
    summary: Summary


@dataclass(frozen=True)
class Report:
    """The texts of a report that is not written yet, and the summary that they show."""

    run: Run
    summary: Summary
    html: str
    markdown: str
    json: str

    def write(self, folder: Path | None = None) -> BuiltReport:
        """Into the run directory or another folder; StoreError if that is full or not allowed."""
        if folder is not None:
            with writing(folder, f"harness report {shlex.quote(str(self.run.path))} --to FOLDER"):
                folder.mkdir(parents=True, exist_ok=True)
        return BuiltReport(
            html=self.run.write_text("report.html", self.html, folder),
            markdown=self.run.write_text("report.md", self.markdown, folder),
            json=self.run.write_text("report.json", self.json, folder),
            measurements=self.run.write_measurements(folder),
            summary=self.summary,
        )


def made(run: Run) -> Report:
    """The report of a run, of which only the directory is read; StoreError if it has no trials."""
    if not (run.path / "trials").is_dir():
        raise StoreError(
            f"{run.path} holds no trials to report on.",
            "Of published runs only the report is kept, and it would be lost.",
            "Read its report.md or report.html, or make a run of your own.",
        )
    summary = summarize(run)
    document = json.dumps(rows.document(summary), indent=1) + "\n"
    return Report(run, summary, html.page(run, summary), markdown.text(summary), document)


def build(run: Run) -> BuiltReport:
    """Write the report into the run directory; StoreError if that is full or holds no trials."""
    return made(run).write()
