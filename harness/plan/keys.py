"""The keys of an experiment's file, looked at before anything is made of them; for `experiment`.

A key that is misspelt in a table would else be left out in silence, and something else measured.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from harness.errors import InputError


def check(table: Any, known: Iterable[str], where: str, header: str = "") -> Mapping[str, Any]:
    """The table, if it is one and has no other keys; InputError if not.

    `header` is how such a table begins in a file.
    """
    if not isinstance(table, Mapping):
        raise InputError(f"{where} is not a table.", next_step=f"Begin it with a line {header}.")
    if unknown := sorted(set(table) - (names := set(known))):
        raise InputError(
            f"{where} has unknown keys: {', '.join(unknown)}.", next_step=_instead(unknown, names)
        )
    return table


def tables(given: Any, where: str, header: str) -> list[Any]:
    """The tables of a list of them; InputError if it is no list."""
    if not isinstance(given, list | tuple):
        raise InputError(f"{where} is no list.", next_step=f"Begin each with a line {header}.")
    return list(given)


def strings(value: Any, key: str, where: str) -> tuple[str, ...]:
    """The strings of a list; InputError if it is something else: a word would be its letters."""
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return tuple(value)
    example = value if isinstance(value, str) else "NAME"
    raise InputError(
        f"{where}: {key} must be a list of names, not {value!r}.",
        next_step=f'Write {key} = ["{example}"].',
    )


def required(table: Mapping[str, Any], key: str, where: str) -> Any:
    """What the table has at this key; InputError if it has none."""
    if key not in table:
        raise InputError(
            f"{where} lacks the key {key!r}.", next_step="Add it; docs/guide.md shows an example."
        )
    return table[key]


def _instead(unknown: Iterable[str], known: set[str]) -> str:
    """The nearest of those that there are: all of an experiment's would be a paragraph."""
    told = []
    for key in unknown:
        near = difflib.get_close_matches(key, known, n=1)
        told.append(f"Instead of {key} it may be {near[0]}." if near else f"Leave {key} out.")
    few = f" There are: {', '.join(sorted(known))}." if len(known) < 10 else ""
    return f"{' '.join(told)}{few or ' docs/guide.md says what can be set.'}"
