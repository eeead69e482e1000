"""A target for the time of a command: what a node needs is there, and removed at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.markup import escape

from harness.cli.screen import err
from harness.errors import HarnessError
from harness.linux.stop_signals import interruptible
from harness.targets.base import Target


@contextmanager
def reached(target: Target) -> Iterator[None]:
    """Check it and install what a node needs there; InputError or NeedError if that is refused."""
    target.check()
    try:
        target.prepare(lambda what: err.print(escape(what), soft_wrap=True))
        yield
    finally:
        with interruptible() as stopping:
            stopping.shield()  # what was moved or made there is to be undone
            try:
                target.remove()
            except HarnessError as error:
                err.print(f"[yellow]Warning:[/] {escape(str(error))}", soft_wrap=True)
