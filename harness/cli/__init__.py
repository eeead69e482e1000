"""The command line: parse, call, print, exit code. A module for each kind of command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from harness import __version__
from harness.cli import streams

if TYPE_CHECKING:
    import typer

    app: typer.Typer

_ELSEWHERE = "Make room, or print it somewhere else; what was measured is in the run's folder."


def __getattr__(name: str) -> object:
    """`app`, all commands, is imported by who asks for it: `--version` need not wait for them."""
    if name != "app":
        raise AttributeError(name)
    from harness.cli import commands

    return commands.app


def main() -> None:
    """The entry point `harness`: the process ends with the command's code, whoever reads it."""
    output = streams.keep()
    if sys.argv[1:] == ["--version"]:
        print(__version__)
        code = 0
    else:
        code = _run()
    sys.stdout.flush()
    if output.lost:
        code = _lost(output.lost, code)
    sys.stderr.flush()
    sys.exit(code)


def _run() -> int:
    from harness.cli.screen import ERROR, defect

    try:
        __getattr__("app")()  # type: ignore[operator]
    except SystemExit as ended:  # as typer leaves, with whatever code
        return ended.code if isinstance(ended.code, int) else ERROR
    except Exception:  # outside of a command, where `errors` does not catch it
        defect()
        return ERROR
    return 0


def _lost(why: str, code: int) -> int:
    """Tell that what was printed is lost; the code with which that ends."""
    from harness.cli.screen import ERROR, INTERRUPTED, complain
    from harness.errors import HarnessError

    complain(HarnessError(f"What was printed is lost: {why}.", next_step=_ELSEWHERE))
    return code if code in (ERROR, INTERRUPTED) else ERROR
