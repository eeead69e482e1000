"""`harness claims` and `harness submit`: what is claimed beside what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli.options import REPORTS
from harness.cli.screen import errors, out
from harness.errors import InputError

_COLOURS = {
    **dict.fromkeys(("confirmed", "met", "within it here", "less than claimed"), "green"),
    **dict.fromkeys(("refuted", "not met", "beyond it here"), "red"), "not resolved": "yellow",
}  # fmt: skip


@errors
def claims_command(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN", help="Runs or submissions; without any: what is published and submitted."
        ),
    ] = None,
    reports: Annotated[
        Path, typer.Option(help="The folder of published/ and submissions/.")
    ] = REPORTS,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the table as Markdown, with sources and conditions.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, no table.")] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Also what nothing here can answer, and why.")
    ] = False,
) -> None:
    """Say what is claimed of collectors, and what runs found of it. Needs no root.

    Examples:

      harness claims

      harness claims reports/RUN

      harness claims --markdown reports/published/claims.md
    """
    from harness.analysis import claimed
    from harness.collectors import claim
    from harness.report import claims as texts
    from harness.report import evidence
    from harness.results.folder import writing

    if reports != REPORTS and not reports.is_dir():
        raise InputError(
            f"There is no folder {reports}.",
            next_step="Give the one that has published/ and submissions/, or name runs: "
            "`harness claims RUN`.",
        )
    found = [evidence.read(path) for path in runs] if runs else evidence.kept(reports)
    answers = claimed.table(claim.load(), found, evidence.unobtainable())
    if markdown is not None:
        with writing(markdown, "harness claims --markdown FILE"):
            markdown.parent.mkdir(parents=True, exist_ok=True)
            markdown.write_text(texts.markdown(answers, found), encoding="utf-8")
    if as_json:
        out.print_json(json.dumps(texts.document(answers)))
        return
    shown = Table("claim", "here, 95 %", "verdict", "where", box=None, pad_edge=False)
    answered, unmeasured, rest = texts.grouped(answers)
    # of named runs one asks what these say
    for each in answered if runs else [*answered, *unmeasured, *(rest if every else ())]:
        colour = _COLOURS.get(each.verdict, "dim")
        why = f": {texts.reason(each)}" if texts.reason(each) else ""
        where = f"{each.evidence.name}, {each.workload}" if each.evidence else ""
        shown.add_row(
            escape(f"{each.claim.tool}: {each.claim.text}"), escape(texts.figure(each.figure)),
            f"[{colour}]{each.verdict}[/]{escape(why)}", escape(where),
        )  # fmt: skip
    out.print(shown)
    number = len({each.claim.id for each in answers})
    out.print(f"\n{number} claims: {escape(texts.counted(answers))}.", soft_wrap=True)
    if rest and not every and not runs:
        out.print(f"{len(rest)} of them nothing here answers: --all says why.")
    out.print("Next: harness submit RUN, to add figures of this machine; docs/claims.md.")


@errors
def submit_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the file goes.")] = (
        REPORTS / "submissions"
    ),
) -> None:
    """Check a run and write its figures into one file, for a pull request. Sends nothing.

    Examples:

      harness submit reports/RUN

      harness submit reports/RUN --to /tmp
    """
    from harness.report import submission
    from harness.results.run import Run

    document = submission.make(Run.open(run))
    path = submission.write(document, to)
    out.print(escape(str(path)), soft_wrap=True)
    out.print(f"{len(document['figures'])} figures. Left out:")
    for each in document["left_out"]:
        out.print(f"  - {escape(each)}", soft_wrap=True)
    told = ", ".join(f"{key} {value}" for key, value in document["machine"].items())
    out.print(f"Of the machine it tells: {escape(told)}.", soft_wrap=True)
    out.print("Next: read it, then attach it to a pull request: CONTRIBUTING.md.")
