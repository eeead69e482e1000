"""Which pods agents see: what a person says of it, as the chart's values; for `rollout`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.errors import InputError
from harness.wire.selector import SelectorError, selection


@dataclass(frozen=True)
class Selectors:
    """Lists of namespaces, and a label selector, as they were written; empty: all pods."""

    namespaces: str = ""
    excluded: str = ""
    pods: str = ""


EVERYTHING = Selectors()


def values(asked: Selectors) -> dict[str, Any]:
    """What the chart's `agents` are given; InputError if something is no selector."""
    try:
        selection(asked.namespaces, asked.excluded, asked.pods)
    except SelectorError as error:
        raise InputError(error.what, error.why, error.next_step) from error
    found = {
        "namespaces": _names(asked.namespaces),
        "excludedNamespaces": _names(asked.excluded),
        "podSelector": asked.pods.strip(),
    }
    return {name: value for name, value in found.items() if value}


def _names(text: str) -> list[str]:
    return [each for each in map(str.strip, text.split(",")) if each]
