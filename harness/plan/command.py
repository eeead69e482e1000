"""How a user's command is read: words as in a shell, which does not run it; for `workloads`."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator

from harness.errors import InputError

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=", re.ASCII)
_PIECES = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*"|.""", re.DOTALL)
_QUOTED = "\x00"  # stands for what is quoted: no part of a command
# what a shell would not pass on to the program, where a person means it to be done
_SYNTAX = re.compile(
    r"\|\|?|&&|;|`|\*|\$\(|\$\{?\w+\}?|(?<![-=])\d?[<>]+&?|&(?!\S)|(?<!\S)[({](?!\S)", re.ASCII
)
_OWNER = r"~[\w.+-]*"  # whose folder: one's own without a name


def parse(command: str, *, here: bool = True) -> tuple[dict[str, str], tuple[str, ...]]:
    """The assignments before the program (`PORT=8080 ./server`), and its words; both may be empty.

    A `~` is somebody's folder where a shell would read it so. InputError if quotes do not match, if
    it asks for a shell, or for a folder of this machine where the program is not to run `here`.
    """
    try:
        shlex.split(command)
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
    words = shlex.split(_with_folders(command, here))
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


def _with_folders(command: str, here: bool) -> str:
    """The command with the folders that its tildes stand for; one of nobody's stays as it is."""
    for place in reversed(list(_tildes(command))):
        owner = place[0]
        folder = os.path.expanduser(owner)
        if folder != owner and not here:
            raise InputError(
                f"--command holds {owner!r}, which would be {folder} of this machine.",
                "The program is to run on another one.",
                "Give the path as it is there.",
            )
        if folder != owner:
            command = command[: place.start()] + shlex.quote(folder) + command[place.end() :]
    return command


def _tildes(command: str) -> Iterator[re.Match[str]]:
    """Where a shell reads one as a folder: at the beginning of a word or of what is assigned.

    There also after a colon, as in PATH=~/bin:~/more. Not within quotes.
    """
    word, assigned, program, begins = 0, False, False, True
    for piece in _PIECES.finditer(command):
        text, at = piece[0], piece.start()
        if text.isspace():
            program = program or (at > word and not assigned)
            word, assigned, begins = piece.end(), False, True
            continue
        if text == "~" and begins:
            ends = "/:" if assigned else "/"
            if found := re.compile(rf"{_OWNER}(?=[{ends}\s]|$)", re.ASCII).match(command, at):
                yield found
        begins = False
        if text == "=" and not (program or assigned):
            assigned = begins = bool(_ASSIGNMENT.fullmatch(command, word, piece.end()))
        elif text == ":" and assigned:
            begins = True
