"""Other people's collectors, one TOML file each in `subjects/`; `spec` and `plan` ask.

A definition is data: how the subject is had, started and scoped, what of its data is counted, and
what is claimed of it. One outside of this folder is given by its path.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness.collectors import option as options
from harness.collectors.claim import printed_beside
from harness.collectors.definition import Definition
from harness.collectors.subject_checks import NAME, problems
from harness.errors import InputError
from harness.model import Claim, Method
from harness.wire.subject import LOCKED, Source, Subject

FOLDER = Path(__file__).with_name("subjects")
_METHODS: tuple[Method, ...] = ("twin", "block")
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
    for problem in problems(data, path, ships=path.parent == FOLDER):
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
    if NAME.fullmatch(spec) and os.path.isfile(FOLDER / f"{spec}.toml"):
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
            data.get("profile", ""),
            data.get("lost", ""),
            data.get("lost_among", False),
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
