"""`harness export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from harness.cli.screen import errors, out
from harness.results.run import Run


@errors
def export_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FOLDER", help="Where the files go.", show_default="RUN"),
    ] = None,
) -> None:
    """Write a run's windows, requests, trials and estimates as Parquet. Needs `make data`.

    Examples:

      harness export reports/RUN

      harness export reports/RUN --to /tmp/run
    """
    from harness.results import tables

    for path in tables.export(Run.open(run), to or run):
        out.print(escape(str(path)), soft_wrap=True)
    out.print("Next: read them with pandas, polars or DuckDB; docs/data.md shows how.")
