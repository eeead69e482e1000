"""How a user's command is read: words as in a shell, which does not run it; for `workloads`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from harness.errors import InputError

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=", re.ASCII)
_PIECES = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*"|.""", re.DOTALL)
_QUOTED = "\x00"  # stands for what is quoted: no part of a command
# what a shell would not pass on to the program, where a person means it to be done
_SYNTAX = re.compile(
    r"\|\|?|&&|;|`|\$\(|\$\{?\w+\}?|(?<!\S)\d?[<>]+&?|&(?!\S)|(?<!\S)[({](?!\S)", re.ASCII
)


def parse(command: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """The assignments before the program (`PORT=8080 ./server`), and its words; both may be empty.

    InputError if quotes do not match, or if it asks for a shell.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError(
            f"--command cannot be read: {error}.",
            command,
            "Quote it as a shell would read it, the whole in single quotes.",
        ) from error
    if found := _shell_syntax(command):
        raise InputError(
            f"--command holds {found!r}, which is for a shell, and none runs it.",
            command,
            "Have a shell run it, and the service in its place: --command \"sh -c '... && exec "
            "./server'\". Quote what is to reach the program as it stands.",
        )
    variables = dict(_assignments(words))
    return variables, tuple(words[len(list(_assignments(words))) :])


def _assignments(words: list[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        if not _ASSIGNMENT.match(word):
            return
        name, _, value = word.partition("=")
        yield name, value


def _shell_syntax(command: str) -> str:
    """The first thing that only a shell does, outside of quotes; empty if there is none."""
    pieces = (piece[0] for piece in _PIECES.finditer(command))
    plain = "".join(piece if len(piece) == 1 else _QUOTED for piece in pieces)
    found = _SYNTAX.search(plain)
    return found[0].strip() if found else ""
