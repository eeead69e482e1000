"""What an evaluation says while it runs: how far it is, and each cost as it becomes known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from harness.cli import screen
from harness.cli.screen import err

if TYPE_CHECKING:
    from harness.controller.interim import Show, SoFar
    from harness.controller.progress import Tell
    from harness.model import Comparison

EACH_SECONDS = 60.0  # between two lines of figures, where there is no terminal
TITLE = "So far, from what is stored; the verdict is made once, at the end"


@dataclass(frozen=True)
class Told:
    """How an evaluation tells how far it is, and what is known by then."""

    tell: Tell
    show: Show | None


@contextmanager
def told(quiet: bool) -> Iterator[Told]:
    """A bar and a table on a terminal, lines elsewhere, nothing when `quiet`."""
    if quiet:
        yield Told(lambda *_: None, None)
        return
    if not err.is_terminal:
        yield Told(screen.lines(quiet), lines())
        return
    from harness.controller.progress import STAYING

    bar = screen.bar()
    task = bar.add_task("", total=None)
    # no thread that redraws: it would disturb the reading of meters in this process
    with Live(bar, console=err, auto_refresh=False, transient=True) as live:
        known: dict[str, SoFar] = {}

        def tell(done: float, total: float, label: str) -> None:
            bar.update(task, completed=done, total=total, description=escape(label))
            if any(mark in label for mark in STAYING):  # else the next step overwrites it
                live.console.print(escape(label))
            live.refresh()

        def show(found: SoFar) -> None:
            known.pop(found.workload, None)
            known[found.workload] = found
            live.update(Group(bar, *map(table, reversed(known.values()))), refresh=True)

        yield Told(tell, show)


def table(found: SoFar) -> Table:
    """The costs that are known of a service by now."""
    from harness.report import wording

    shown = Table(
        "", f"CPU µs a request, on {wording.MINUS} off [95 %]", "known to", "bill, at least",
        box=None, pad_edge=False, padding=(0, 2, 0, 0), title_justify="left", title=heading(found),
        caption=TITLE, caption_justify="left",
    )  # fmt: skip
    for row in _costs(found):
        half = (row.high - row.low) / 2
        known = f"± {wording.plain(100 * half / row.level)} %" if row.level > 0 else ""
        shown.add_row(escape(_label(row)), escape(_figure(row)), known, _bill(found, row.arm))
    return shown


def lines(clock: Callable[[], float] = time.monotonic) -> Show:
    """Tells the costs in a line, at most once in EACH_SECONDS."""
    said: float | None = None

    def show(found: SoFar) -> None:
        nonlocal said
        if said is not None and clock() - said < EACH_SECONDS:
            return
        said = clock()
        costs = "; ".join(f"{_label(row)} {_figure(row)}" for row in _costs(found))
        err.print(escape(f"      {heading(found)}: {costs} µs of CPU a request"), soft_wrap=True)

    return show


def heading(found: SoFar) -> str:
    """`go, after 1 of 4 blocks`."""
    return f"{found.workload}, after {found.blocks} of {found.of} blocks"


def _costs(found: SoFar) -> Iterator[Comparison]:
    return (row for row in found.rows if row.metric == "workload_cpu_us")


def _label(row: Comparison) -> str:
    from harness.model import BASELINE

    return "nothing (A/A)" if row.arm == BASELINE else row.arm


def _figure(row: Comparison) -> str:
    from harness.report import wording

    centre = wording.number(row.estimate, wording.places(row), signed=True)
    return f"{centre} {wording.interval(row)}".replace(" ", "\N{NO-BREAK SPACE}")


def _bill(found: SoFar, arm: str) -> str:
    from harness.report import wording

    rows = {row.metric: row for row in found.rows if row.arm == arm}
    parts = [
        f"{wording.plain(rows[metric].estimate)} {unit}"
        for metric, unit in (("bill_us", "µs"), ("bill_percent", "%"))
        if metric in rows
    ]
    return ", ".join(parts).replace(" ", "\N{NO-BREAK SPACE}")
