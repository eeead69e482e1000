"""What every command shares: the two consoles, errors as sentences, progress; used by `cli`."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TextIO, TypeGuard

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.controller.progress import Tell as Told

ERROR, INCONCLUSIVE, INTERRUPTED = 2, 3, 130

P = ParamSpec("P")


def _width(stream: TextIO | None) -> int | None:
    """A pipe or a CI log has no width of its own; a stream that is closed is None."""
    return None if stream is not None and stream.isatty() else 120


out = Console(highlight=False, width=_width(sys.stdout))
err = Console(stderr=True, highlight=False, width=_width(sys.stderr))


def errors(command: Callable[P, None]) -> Callable[P, None]:
    """Print a HarnessError as sentences and exit with 2; with 2 too after a defect of ours.

    Python's own exit code for that is 1, which is a verdict here.
    """

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except HarnessError as error:
            complain(error)
            raise typer.Exit(ERROR) from None
        except KeyboardInterrupt:
            err.print("[yellow]Interrupted.[/] What was started has been ended.")
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:
            if _is_forbidden(error):
                complain(_forbidden(error))
            else:
                defect()
            raise typer.Exit(ERROR) from None

    return wrapped


def _is_forbidden(error: Exception) -> TypeGuard[PermissionError]:
    """Whether somebody who is not root asked for a file of somebody else: no defect of ours."""
    return isinstance(error, PermissionError) and bool(error.filename) and os.geteuid() != 0


def _forbidden(error: PermissionError) -> HarnessError:
    return HarnessError(
        f"{error.filename}: {error.strerror}.",
        next_step="Ask its owner, or root, to let you at it and the folders above it.",
    )


@contextmanager
def progress(quiet: bool) -> Iterator[Told]:
    """A bar on a terminal, lines elsewhere, nothing when `quiet`; called by an evaluation."""
    if quiet or not err.is_terminal:
        yield lines(quiet)
        return
    # no thread that redraws: it would disturb the reading of meters in this process
    with bar() as shown:
        task = shown.add_task("", total=None)
        yield lambda done, total, label: shown.update(
            task, completed=done, total=total, description=escape(label), refresh=True
        )


def bar(width: int | None = None) -> Progress:
    """How far something is, what is left, and what happens now, in one line of the terminal."""
    columns = (
        BarColumn(12), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(),
        TextColumn("gone,"), TimeRemainingColumn(), TextColumn("left"),
        _Doing((width or err.width) - 46),
    )  # fmt: skip
    return Progress(*columns, console=err, auto_refresh=False)


class _Doing(ProgressColumn):
    """What happens now, as far as the other columns leave room: else all would be cut."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = max(room, 1)

    def render(self, task: Task) -> Text:
        """Called by the bar, whenever it is drawn."""
        told = Text.from_markup(task.description)
        told.truncate(self._room, overflow="ellipsis")
        return told


def lines(quiet: bool) -> Told:
    """A line when something new begins, and at the end."""
    said, is_over = "", False

    def tell(done: float, total: float, label: str) -> None:
        nonlocal said, is_over
        is_new, ends = label != said, done >= total and not is_over
        if not quiet and (is_new or ends):
            said, is_over = label, done >= total
            words = f"  {escape(label)}" if is_new else ""
            err.print(f"{max(0.0, 100 * done / total):3.0f} %{words}", soft_wrap=True)

    return tell


def defect() -> None:
    """Print the exception that is being handled, and whose fault it is."""
    traceback.print_exc()
    err.print("[red]Error:[/] This is a defect of the harness, not of your input.")


def complain(error: HarnessError) -> None:
    """Print an error: what, why, next step."""
    err.print(f"[red]Error:[/] {escape(error.what)}", soft_wrap=True)
    for sentence in (error.why, error.next_step):
        if sentence:
            err.print(f"  {escape(sentence)}", soft_wrap=True)
