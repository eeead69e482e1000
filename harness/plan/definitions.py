"""The collectors of an experiment, resolved once and kept with the run; for `controller`."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.collectors import Definition, resolve
from harness.model import Claim
from harness.plan.experiment import Experiment
from harness.wire import codec
from harness.wire.subject import Subject

__all__ = ["from_dict", "resolve", "resolve_all", "to_dict"]


def resolve_all(experiment: Experiment) -> dict[str, Definition]:
    """Every collector of its arms, by how it is written there; InputError if one is not known."""
    named = [spec for arm in experiment.arms for spec in (*arm.collectors, *arm.against)]
    return {spec: resolve(spec) for spec in dict.fromkeys(named)}


def to_dict(definition: Definition) -> dict[str, Any]:
    """As run.json keeps it; with a hash of the program, where it is one that lies here."""
    return {**dataclasses.asdict(definition), "sha256": _hash(definition)}


def from_dict(data: Mapping[str, Any]) -> Definition:
    """What `to_dict` made."""
    values = {key: value for key, value in data.items() if key != "sha256"}
    values["claims"] = tuple(Claim(**claim) for claim in values["claims"])
    if values.get("subject"):
        values["subject"] = codec.load(Subject, values["subject"])
    for field in dataclasses.fields(Definition):
        if isinstance(values.get(field.name), list):  # as JSON has it
            values[field.name] = tuple(values[field.name])
    return Definition(**values)


def changed(kept: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The collectors, of those that a run keeps, whose program here is another one by now."""
    return [
        spec
        for spec, data in kept.items()
        if (now := _hash(from_dict(data))) and data.get("sha256") not in (None, "", now)
    ]


def _hash(definition: Definition) -> str:
    program = _program(definition)
    found = shutil.which(program) if program else None
    try:
        return hashlib.sha256(Path(found).read_bytes()).hexdigest() if found else ""
    except OSError:  # it may be run, not read
        return ""


def _program(definition: Definition) -> str:
    """What is run of it; of somebody else's what it is had by: a wrapper may come first."""
    subject = definition.subject
    if subject is not None and subject.source.way == "path":
        return subject.source.name
    return definition.command[0] if definition.command else ""
