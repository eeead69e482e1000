"""How a collector is named in an experiment, resolved.

http                             an included collector
profile:frequency=99,drain=0.5   the same with options of its agent; `_` stands for `-`
ddtrace                          a subject, somebody else's: one of those in subjects/
path/to/collector.toml           one of your own, which speaks the agents' protocol, or a subject
daemonset:NAMESPACE/NAME         what a cluster runs on each node; it can be moved, not switched
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from harness.collectors import subject, values
from harness.collectors.definition import Definition
from harness.collectors.included import REGISTRY
from harness.errors import InputError
from harness.wire.telemetry import TelemetryKind, countable

PLACEHOLDERS = ("cgroup", "otlp", "control", "service", "interval", "instance", "here", "python")
DAEMONSET = "daemonset:"
REQUIRED = ("name", "purpose", "command")
_OBJECT = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")  # of Kubernetes
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_SHOWN = "docs/guide.md, *Your own collector*, shows one"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def resolve(spec: str) -> Definition:
    """The collector that `spec` names; InputError if there is none such."""
    name, colon, text = spec.partition(":")
    if spec.startswith(DAEMONSET):
        return _placed(text)
    if name in REGISTRY:
        return _with_options(REGISTRY[name], text, spec) if colon else REGISTRY[name]
    if (found := subject.find(spec)) is not None:
        return found
    if spec.endswith(".toml"):
        return _external(Path(spec))
    known = ", ".join((*REGISTRY, *subject.names()))
    raise InputError(
        f"The collector {spec!r} is not known.",
        next_step=f"Known are: {known}, or the path of a collector's .toml file; "
        f"in a cluster {DAEMONSET}NAMESPACE/NAME.",
    )


def is_placed(spec: str) -> bool:
    """Whether it is one that a cluster runs, or a part of one: the target has it come and go."""
    return spec.startswith(DAEMONSET) or subject.is_placed(spec)


def _placed(given: str) -> Definition:
    namespace, slash, name = given.partition("/")
    if not slash or not all(map(_OBJECT.fullmatch, (namespace, name))):
        raise InputError(
            f"The collector {DAEMONSET + given!r} cannot be read.",
            next_step=f"Write {DAEMONSET}NAMESPACE/NAME.",
        )
    purpose = f"the DaemonSet {given}, as the cluster runs it"
    return Definition(name, purpose, None, None, daemonset=given, variant=namespace)


def _with_options(definition: Definition, text: str, spec: str) -> Definition:
    options: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        option = key.strip().replace("_", "-")
        if not equals or not value.strip() or option in options:
            raise InputError(
                f"The collector {spec!r} cannot be read at {part!r}.",
                next_step="Write NAME:option=value,option=value, each option once.",
            )
        if option not in definition.accepts:
            raise InputError(
                f"The collector {definition.name!r} has no option {option!r}.",
                next_step=f"It has: {', '.join(definition.accepts)}.",
            )
        options[option] = value.strip()
    values.check(options, spec)
    return definition.instance(text, options)


def _external(path: Path) -> Definition:
    try:
        data = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(
            f"The collector {path} cannot be read.",
            f"{error.strerror}.",
            f"Give the file that describes it, or one of: {', '.join(REGISTRY)}.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"The collector {path} is not valid TOML.", str(error), f"Correct it there; {_SHOWN}."
        ) from error
    for problem in _problems(data):
        raise InputError(
            f"The collector {path} cannot be used: {problem}",
            next_step=f"Correct the file; {_SHOWN}.",
        )
    here = str(path.resolve().parent)
    return Definition(
        data["name"],
        data["purpose"],
        data.get("signal"),
        data.get("telemetry"),
        command=tuple(word.replace("{here}", here) for word in data["command"]),
        scope=data.get("scope", f"harness.{data['name']}"),
    )


def _problems(data: Mapping[str, Any]) -> Iterator[str]:
    known = (*REQUIRED, "signal", "telemetry", "scope")
    if missing := [key for key in REQUIRED if key not in data]:
        yield f"it lacks {', '.join(missing)}."
    if unknown := sorted(set(data) - set(known)):
        yield f"it has unknown keys: {', '.join(unknown)}. Known are: {', '.join(known)}."
    for key in ("name", "purpose", "scope"):
        if not isinstance(data.get(key, ""), str):
            yield f"{key} is a string."
    if not _NAME.fullmatch(data["name"]):
        yield f"{data['name']!r} cannot be its name: only a-z, 0-9, - and _ can, 40 at most."
    if data["name"] in REGISTRY:
        yield f"the name {data['name']!r} is that of an included collector."
    for key, allowed in (("signal", countable()), ("telemetry", get_args(TelemetryKind))):
        if key in data and data[key] not in allowed:
            yield f"{key} is one of {', '.join(allowed)}, not {data[key]!r}."
    yield from _command_problems(data["command"])


def _command_problems(command: Any) -> Iterator[str]:
    if not isinstance(command, list) or not command or not all(isinstance(w, str) for w in command):
        yield "command is a list of strings, the program first."
        return
    found = {name for word in command for name in _PLACEHOLDER.findall(word)}
    if unknown := sorted(found - set(PLACEHOLDERS)):
        yield (
            f"command has unknown placeholders: {', '.join(unknown)}. "
            f"Known are: {', '.join(PLACEHOLDERS)}."
        )
    if missing := [name for name in ("cgroup", "control") if name not in found]:
        yield f"command lacks the placeholder {{{missing[0]}}}."
