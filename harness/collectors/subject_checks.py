"""What is wrong with somebody else's collector's definition, as sentences; for `subject`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from harness.collectors import option as options
from harness.collectors.definition import JOBS
from harness.wire.subject import LOCKED, Kind, ReadyBy, Temporality, Way
from harness.wire.telemetry import SAMPLES, SERVER_SPANS, TelemetryKind, countable

PLACEHOLDERS = {
    "in-process": ("otlp", "home", "site", "jar", "service", "instance", "folder", "python"),
    "process": ("pid", "cgroup", "cgroup_id", "port", "home", "folder", "python", "here", "otlp",
                "receiver", "free"),
    "option": (),
    "daemonset": (),
}  # fmt: skip
_KEYS = (
    "name", "purpose", "kind", "job", "method", "language", "reach", "environment", "wrap",
    "command", "files", "ready", "events", "page", "leaves", "hooks", "source", "option",
    "telemetry", "claims", "build", "program", "ready_by", "temporality", "profile", "lost",
    "lost_among",
)  # fmt: skip
_TABLES = {
    "source": (
        "way",
        "name",
        "version",
        "sha256",
        "lock",
        "package",
        "tells",
        "why",
        "asks",
        "url",
        "member",
    ),
    "option": options.KEYS,
    "telemetry": ("signal", "kind", "scope", "seconds", "frequency"),
    "claims": ("text", "source", "date"),
}
_TEXTS = ("name", "purpose", "language", "ready", "events", "page", "program", "profile",
          "lost")  # fmt: skip
METHODS = ("twin", "block")
_ARCHITECTURE = re.compile(r"\w+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_FILE = re.compile(r"[\w.-]*\w")  # in the folder itself: neither a path nor the folder above
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def problems(data: Mapping[str, Any], path: Path, *, ships: bool) -> Iterator[str]:
    """What is wrong with what this file says; one that `ships` is called as its file."""
    if unknown := sorted(set(data) - set(_KEYS)):
        yield f"it has unknown keys: {', '.join(unknown)}. Known are: {', '.join(_KEYS)}."
    if missing := [key for key in ("name", "purpose", "kind", "source") if key not in data]:
        yield f"it lacks {', '.join(missing)}."
    if not NAME.fullmatch(str(data["name"])):
        yield f"{data['name']!r} cannot be its name: only a-z, 0-9 and - can, 40 at most."
    if ships and data["name"] != path.stem:
        yield f"its name is {data['name']!r}, and its file is {path.name}."
    for key, allowed in (("kind", get_args(Kind)), ("method", METHODS),
                         ("reach", ("service", "host")), ("job", JOBS),
                         ("ready_by", get_args(ReadyBy)),
                         ("temporality", get_args(Temporality))):  # fmt: skip
        if key in data and data[key] not in allowed:
            yield f"{key} is one of {', '.join(allowed)}, not {data[key]!r}."
    yield from _table_problems(data)
    yield from _type_problems(data)
    yield from _source_problems(data["source"], path)
    yield from options.problems(data)
    yield from _profile_problems(data)
    yield from _start_problems(data)
    yield from _expression_problems(data)
    told = data.get("telemetry", {})
    signals = (*countable(), SERVER_SPANS)
    for key, allowed in (("signal", signals), ("kind", get_args(TelemetryKind))):
        if key in told and told[key] not in allowed:
            yield f"telemetry.{key} is one of {', '.join(allowed)}, not {told[key]!r}."


def _expression_problems(data: Mapping[str, Any]) -> Iterator[str]:
    for key, text in (("ready", data.get("ready", "")), ("events", data.get("events", "")),
                      ("lost", data.get("lost", "")),
                      ("source.tells", data["source"].get("tells", ""))):  # fmt: skip
        try:
            found = re.compile(text)
        except (re.error, TypeError) as error:
            yield f"{key} is no regular expression: {error}."
            continue
        if key == "lost" and text and (found.groups != 1 or "page" not in data):
            yield "lost has a number in brackets, and is looked for on the page."
        numbers = "page" in data or "temporality" in data or data["kind"] == "option"
        if key != "events" or not text:
            continue
        if found.groups > 1 or (numbers and not found.groups):
            yield "events has a number in brackets, or none where each match in a log is an event."
        if found.search(""):
            yield f"events matches where nothing is said: {text!r}."


def _profile_problems(data: Mapping[str, Any]) -> Iterator[str]:
    """Of the files that hold its samples; how many were to come needs a rate."""
    if "profile" not in data:
        return
    told, pattern = data.get("telemetry", {}), str(data["profile"])
    if data["kind"] != "in-process":
        yield "profile is of what runs within the service."
    if not pattern.endswith(".jfr") or pattern.startswith("/") or ".." in pattern.split("/"):
        yield f"profile is a pattern of .jfr files in its folder, not {pattern!r}."
    if told.get("signal") != SAMPLES or not told.get("frequency"):
        yield "profile needs telemetry.signal samples and a telemetry.frequency, in Hz of CPU time."


def _table_problems(data: Mapping[str, Any]) -> Iterator[str]:
    for name, known in _TABLES.items():
        tables = data.get(name, {})
        for table in tables if name == "claims" and isinstance(tables, list) else [tables]:
            if not isinstance(table, Mapping):
                yield f"{name} is a table."
            elif unknown := sorted(set(table) - set(known)):
                yield f"{name} has unknown keys: {', '.join(unknown)}. Known: {', '.join(known)}."
    for claim in data.get("claims", ()):
        if missing := sorted({"text", "source", "date"} - set(claim)):
            yield f"a claim lacks {', '.join(missing)}: nobody could look it up."


def _type_problems(data: Mapping[str, Any]) -> Iterator[str]:
    """What is no text, no list or no number where one is meant: a node would know it too late."""
    source, told = data["source"], data.get("telemetry", {})
    texts = {key: data[key] for key in _TEXTS if key in data}
    texts |= {f"source.{key}": value for key, value in source.items() if key != "sha256"}
    texts |= {f"telemetry.{key}": told[key] for key in ("scope",) if key in told}
    for key, value in texts.items():
        if not isinstance(value, str):
            yield f"{key} is a string, not {value!r}."
    for key in ("seconds", "frequency"):
        value = told.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            yield f"telemetry.{key} is a number above 0, not {value!r}."
    for key in ("command", "wrap", "leaves", "hooks", "build"):
        words = data.get(key, [])
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            yield f"{key} is a list of strings."
    for key in ("environment", "files"):
        table = data.get(key, {})
        if not isinstance(table, Mapping) or not all(isinstance(v, str) for v in table.values()):
            yield f"{key} is a table of strings."


def _source_problems(source: Mapping[str, Any], path: Path) -> Iterator[str]:
    needed = {"path": (), "pypi": ("version", "lock"), "npm": ("version", "lock"),
              "maven": ("version", "sha256"), "cluster": (), "none": ("why",),
              "archive": ("version", "url", "member", "sha256")}  # fmt: skip
    way = source.get("way")
    if way not in needed:
        yield f"source.way is one of {', '.join(get_args(Way))}, not {way!r}."
    elif missing := [key for key in ("name", *needed[str(way)]) if not source.get(key)]:
        yield f"source lacks {', '.join(missing)}, which {way} needs."
    elif way in LOCKED and not (path.parent / source["lock"]).is_file():
        yield f"there is no lock file {source['lock']} beside it."
    elif way == "npm" and not _is_pinned(path.parent / source["lock"], source):
        yield f"{source['lock']} is no package-lock.json that pins this version of the package."
    elif way == "archive":
        yield from _archive_problems(source)


def _archive_problems(source: Mapping[str, Any]) -> Iterator[str]:
    hashes, url, member = source["sha256"], source["url"], str(source["member"])
    if not isinstance(hashes, Mapping) or not all(map(_ARCHITECTURE.fullmatch, hashes)):
        yield 'source.sha256 is a table of hashes by architecture: { amd64 = "..." }.'
    elif wrong := [name for name, told in hashes.items() if not _SHA256.fullmatch(str(told))]:
        yield f"source.sha256 of {wrong[0]} is not one: it has 64 digits, as `sha256sum` prints it."
    if not re.fullmatch(r"https?://[^/\s@]+/\S*[^/\s]", str(url)):
        yield f"source.url is an address of a file, by http or https, not {url!r}."
    if member.startswith("/") or ".." in member.split("/"):
        yield f"source.member is a file in the archive, not {member!r}."
    for key, text in (("url", str(url)), ("member", member)):
        if unknown := sorted(set(_PLACEHOLDER.findall(text)) - {"version", "arch"}):
            yield f"source.{key} has unknown placeholders: {', '.join(unknown)}."


def _is_pinned(lock: Path, source: Mapping[str, Any]) -> bool:
    """Whether npm's lock file says how the package is asked for, and has it in this version."""
    try:
        packages = json.loads(lock.read_text())["packages"]
        found = packages[f"node_modules/{source['name']}"]["version"]
        return isinstance(packages[""], dict) and found == source["version"]
    except (ValueError, KeyError, TypeError):
        return False


def _start_problems(data: Mapping[str, Any]) -> Iterator[str]:
    """What is said of how it is started; nothing is needed of what cannot be had."""
    within = data["kind"] == "in-process"
    if within and data.get("method", "twin") != "twin":
        yield "what runs within the service is compared by the method twin."
    if within and "command" in data:
        yield "what runs within the service has no command: give environment and wrap."
    if bool(data.get("build")) != bool(data.get("program")) or ("build" in data and not within):
        yield "what is compiled into a service has both build and program."
    by, words = (
        data.get("ready_by", "log"),
        [*data.get("command", []), *data.get("files", {}).values()],
    )
    words += data.get("environment", {}).values()
    if by != "log" and ("ready" in data or data["kind"] != "process"):
        yield "ready_by is of a process that no line of its log tells to be ready."
    if by == "port" and not any("{free}" in str(word) for word in words):
        yield "it is ready by a port, and is told none: {free} is one that nobody has."
    if not within and "wrap" in data:
        yield "wrap is of what runs within the service."
    if "page" in data and (within or not data.get("events")):
        yield "page is of a process, and events says what is counted on it."
    aloud = data["kind"] == "process" and data.get("events") and "page" not in data
    if not isinstance(data.get("lost_among", False), bool) or ("lost_among" in data) > (
        "lost" in data
    ):
        yield "lost_among is true or false, and is of lost."
    if "temporality" in data and not aloud:
        yield "temporality is of the numbers that events finds in the log of a process."
    if data.get("temporality") == "delta" and not data.get("telemetry", {}).get("seconds"):
        yield "telemetry.seconds says how often numbers of temporality delta are told."
    if wrong := [name for name in data.get("files", ()) if not _FILE.fullmatch(name)]:
        yield f"{wrong[0]!r} cannot be the name of a file in its folder."
    if data["kind"] == "process" and data["source"]["way"] != "none" and not data.get("command"):
        yield "it lacks command, a list of strings, the program first."
    words = [*data.get("command", []), *data.get("wrap", []), *data.get("build", [])]
    words += [data.get("page", ""), data.get("program", "")]
    words += [*data.get("environment", {}).values(), *data.get("files", {}).values()]
    known = PLACEHOLDERS[data["kind"]]
    found = {name for word in words for name in _PLACEHOLDER.findall(str(word))}
    if unknown := sorted(found - set(known)):
        yield f"unknown placeholders: {', '.join(unknown)}. Known are: {', '.join(known)}."
