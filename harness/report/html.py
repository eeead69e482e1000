"""report.html: one self-contained page; `build` calls it."""

from __future__ import annotations

from pathlib import Path

import jinja2

from harness.analysis.summary import Summary
from harness.report import table, wording
from harness.store import Run


def page(run: Run, summary: Summary) -> str:
    """The page as text; needs no file beside it and no network."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return env.get_template("page.html.j2").render(
        summary=summary, lines=table.lines(summary), columns=table.COLUMNS, w=wording
    )
