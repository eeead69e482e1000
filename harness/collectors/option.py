"""What a definition says of a DaemonSet, or of a part of one that commands turn; for `subject`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from harness.wire.subject import Option

KEYS = tuple(each.name for each in fields(Option))
_COMMANDS = ("on", "off", "state", "seen")
_DAEMONSET = re.compile(r"[a-z0-9][a-z0-9.-]*/[a-z0-9][a-z0-9.-]*")


def read(table: Mapping[str, Any]) -> Option:
    """The option that a table without `problems` describes."""
    return Option(
        table["container"], tuple(table["on"]), tuple(table["off"]), tuple(table["state"]),
        table["is_on"], table["is_off"], tuple(table["seen"]),
    )  # fmt: skip


def problems(data: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a whole definition as far as what a cluster runs is concerned."""
    source, table = data["source"], data.get("option", {})
    if data["kind"] not in ("option", "daemonset"):
        if "option" in data or source.get("way") == "cluster":
            yield 'a DaemonSet has kind = "daemonset", a part of it kind = "option".'
        return
    if source.get("way") != "cluster" or not _DAEMONSET.fullmatch(str(source.get("name"))):
        yield 'its source is way = "cluster", name = "NAMESPACE/NAME", a DaemonSet.'
    if data.get("method", "twin") != "block":
        yield 'its method is block: it is on for half of a trial (method = "block").'
    if own := sorted({"command", "ready", "environment", "files", "page"} & set(data)):
        yield f"it runs already, so that it has no {' and no '.join(own)}."
    if data["kind"] == "daemonset":
        if own := sorted({"option", "events", "telemetry"} & set(data)):
            yield f"what it sees is not known here, so that it has no {' and no '.join(own)}."
        return
    if missing := [key for key in KEYS if not table.get(key)]:
        yield f"option lacks {', '.join(missing)}."
    if not data.get("events"):
        yield "it lacks events, which finds a count in what option.seen prints."
    for key in _COMMANDS:
        words = table.get(key, [])
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            yield f"option.{key} is a list of strings, the program first."
    for key in ("is_on", "is_off"):
        try:
            re.compile(str(table.get(key, "")))
        except re.error as error:
            yield f"option.{key} is no regular expression: {error}."
