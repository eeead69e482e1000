"""Other people's collectors, one TOML file each in `subjects/`; `spec` and `plan` ask.

A definition is data: how the subject is had, started and scoped, what of its data is counted, and
what is claimed of it. One outside of this folder is given by its path.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args

from harness.collectors import option as options
from harness.collectors.claim import printed_beside
from harness.collectors.definition import JOBS, Definition
from harness.errors import InputError
from harness.model import Claim, Method
from harness.wire.subject import LOCKED, Kind, ReadyBy, Source, Subject, Temporality, Way
from harness.wire.telemetry import SERVER_SPANS, TelemetryKind, countable

FOLDER = Path(__file__).with_name("subjects")
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
    "telemetry", "claims", "build", "program", "ready_by", "temporality",
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
_METHODS: tuple[Method, ...] = ("twin", "block")
_ARCHITECTURE = re.compile(r"\w+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_FILE = re.compile(r"[\w.-]*\w")  # in the folder itself: neither a path nor the folder above
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_SHOWN = "docs/guide.md, *Other people's collectors*, says what a definition holds"


def names() -> list[str]:
    """The subjects that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Definition:
    """One that ships."""
    return read(FOLDER / f"{name}.toml")


@cache
def read(path: Path) -> Definition:
    """The definition in a file; InputError that says what is wrong with it."""
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"The subject {path} cannot be read.", f"{error}.", f"Correct it; {_SHOWN}."
        ) from error
    for problem in _problems(data, path):
        raise InputError(
            f"The subject {path} cannot be used: {problem}", next_step=f"Correct it; {_SHOWN}."
        )
    return _definition(data, path)


def is_definition(path: Path) -> bool:
    """Whether a collector's file is of this kind; one that speaks our protocol has no `kind`."""
    try:
        return "kind" in tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False


def find(spec: str) -> Definition | None:
    """The subject that an experiment names so; None if it names no subject, or none any more."""
    # unlike Path.is_file it says no, too, to who may not look there: runs are read all the same
    if _NAME.fullmatch(spec) and os.path.isfile(FOLDER / f"{spec}.toml"):
        return load(spec)
    path = Path(spec)
    return read(path) if spec.endswith(".toml") and is_definition(path) else None


def is_within(spec: str) -> bool:
    """Whether it runs in the service's own processes."""
    found = find(spec)
    return found is not None and found.subject is not None and found.subject.is_within


def is_placed(spec: str) -> bool:
    """Whether it is of a cluster: a DaemonSet that is moved, or a part of one."""
    found = find(spec)
    return found is not None and bool(found.daemonset)


def is_option(spec: str) -> bool:
    """Whether it is a part of what a cluster runs, which goes on without it."""
    found = find(spec)
    return found is not None and found.subject is not None and found.subject.option is not None


def method(specs: Iterable[str]) -> Method | None:
    """How an arm with these collectors is compared if it does not say; None without a subject.

    What runs within the service can be compared in one way only.
    """
    found = [each for spec in specs if (each := find(spec)) is not None]
    ways = {each.method for each in found}
    return next((way for way in _METHODS if way in ways), None)


def lock(source: Source) -> str:
    """The text of a lock file, empty without one; InputError if it was another before."""
    if not source.is_locked:
        return ""
    path = FOLDER / source.lock
    text = path.read_text() if path.is_file() else ""
    if hashlib.sha256(text.encode()).hexdigest() != source.sha256:
        raise InputError(
            f"{path} is not what the run began with.",
            "Its report would be of two versions, as if they were one.",
            "Begin another run.",
        )
    return text


def _definition(data: Mapping[str, Any], path: Path) -> Definition:
    telemetry = data.get("telemetry", {})
    given = {"interval": telemetry.get("seconds"), "frequency": telemetry.get("frequency")}
    here = str(path.resolve().parent)
    return Definition(
        data["name"],
        data["purpose"],
        telemetry.get("signal"),
        telemetry.get("kind"),
        tuple(Claim(**claim) for claim in data.get("claims", ())) + printed_beside(data["name"]),
        options={name: f"{value:g}" for name, value in given.items() if value},
        command=tuple(word.replace("{here}", here) for word in data.get("command", ())),
        scope=telemetry.get("scope", ""),
        hooks=tuple(data.get("hooks", ())),
        daemonset=data["source"]["name"] if data["source"]["way"] == "cluster" else "",
        job=data.get("job", ""),
        method=data.get("method", "twin"),
        subject=Subject(
            data["kind"],
            _source(data["source"], path),
            data.get("language", ""),
            data.get("environment", {}),
            tuple(data.get("wrap", ())),
            data.get("ready", ""),
            data.get("events", ""),
            tuple(data.get("leaves", ())),
            data.get("reach", "service"),
            data.get("files", {}),
            data.get("page", ""),
            options.read(data["option"]) if data["kind"] == "option" else None,
            tuple(data.get("build", ())),
            data.get("program", ""),
            data.get("ready_by", "log"),
            data.get("temporality", "cumulative"),
        ),
    )


def _source(table: Mapping[str, Any], path: Path) -> Source:
    """With the hash of its lock file, which one that ships names without a folder."""
    if table["way"] == "archive":
        return Source(**{**table, "sha256": "", "hashes": table["sha256"]})
    if table["way"] not in LOCKED:
        return Source(**table)
    file = path.parent / table["lock"]
    own = table["lock"] if path.parent == FOLDER else str(file.resolve())
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    return Source(**{**table, "lock": own, "sha256": sha256})


def _problems(data: Mapping[str, Any], path: Path) -> Iterator[str]:
    if unknown := sorted(set(data) - set(_KEYS)):
        yield f"it has unknown keys: {', '.join(unknown)}. Known are: {', '.join(_KEYS)}."
    if missing := [key for key in ("name", "purpose", "kind", "source") if key not in data]:
        yield f"it lacks {', '.join(missing)}."
    if not _NAME.fullmatch(str(data["name"])):
        yield f"{data['name']!r} cannot be its name: only a-z, 0-9 and - can, 40 at most."
    if path.parent == FOLDER and data["name"] != path.stem:
        yield f"its name is {data['name']!r}, and its file is {path.name}."
    for key, allowed in (("kind", get_args(Kind)), ("method", _METHODS),
                         ("reach", ("service", "host")), ("job", JOBS),
                         ("ready_by", get_args(ReadyBy)),
                         ("temporality", get_args(Temporality))):  # fmt: skip
        if key in data and data[key] not in allowed:
            yield f"{key} is one of {', '.join(allowed)}, not {data[key]!r}."
    yield from _table_problems(data)
    yield from _source_problems(data["source"], path)
    yield from options.problems(data)
    yield from _start_problems(data)
    yield from _expression_problems(data)
    told = data.get("telemetry", {})
    signals = (*countable(), SERVER_SPANS)
    for key, allowed in (("signal", signals), ("kind", get_args(TelemetryKind))):
        if key in told and told[key] not in allowed:
            yield f"telemetry.{key} is one of {', '.join(allowed)}, not {told[key]!r}."


def _expression_problems(data: Mapping[str, Any]) -> Iterator[str]:
    for key, text in (("ready", data.get("ready", "")), ("events", data.get("events", "")),
                      ("source.tells", data["source"].get("tells", ""))):  # fmt: skip
        try:
            found = re.compile(text)
        except (re.error, TypeError) as error:
            yield f"{key} is no regular expression: {error}."
            continue
        numbers = "page" in data or "temporality" in data or data["kind"] == "option"
        if key != "events" or not text:
            continue
        if found.groups > 1 or (numbers and not found.groups):
            yield "events has a number in brackets, or none where each match in a log is an event."
        if found.search(""):
            yield f"events matches where nothing is said: {text!r}."


def _table_problems(data: Mapping[str, Any]) -> Iterator[str]:
    for name, known in _TABLES.items():
        tables = data.get(name, {})
        for table in tables if isinstance(tables, list) else [tables]:
            if not isinstance(table, Mapping):
                yield f"{name} is a table."
            elif unknown := sorted(set(table) - set(known)):
                yield f"{name} has unknown keys: {', '.join(unknown)}. Known: {', '.join(known)}."
    for claim in data.get("claims", ()):
        if missing := sorted({"text", "source", "date"} - set(claim)):
            yield f"a claim lacks {', '.join(missing)}: nobody could look it up."


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
    for key in ("command", "wrap", "leaves", "hooks", "build"):
        words = data.get(key, [])
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            yield f"{key} is a list of strings."
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
    if "temporality" in data and not aloud:
        yield "temporality is of the numbers that events finds in the log of a process."
    if data.get("temporality") == "delta" and not data.get("telemetry", {}).get("seconds"):
        yield "telemetry.seconds says how often numbers of temporality delta are told."
    for key in ("environment", "files"):
        table = data.get(key, {})
        if not isinstance(table, Mapping) or not all(isinstance(v, str) for v in table.values()):
            yield f"{key} is a table of strings."
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
