"""The components of the stack and the ways to get each, from catalog.toml; `supply` uses them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import InputError

CATALOG = Path(__file__).with_name("catalog.toml")
MODULES = Path(__file__).with_name("modules")


@dataclass(frozen=True)
class OnPath:
    """A program on PATH whose `--version` says `least` or later, and below `below` if given."""

    commands: tuple[str, ...]
    least: str
    below: str = ""


@dataclass(frozen=True)
class Archive:
    """A release archive (.tar.gz or .zip); `{version}` and `{arch}` are replaced in `url`.

    `sha256` has a key for each architecture (amd64, arm64), `member` is the program inside.
    """

    url: str
    sha256: Mapping[str, str]
    member: str
    fetch_mb: int = 0


@dataclass(frozen=True)
class Module:
    """A Go package, built in a module whose go.mod and go.sum are in modules/<component>.

    `stamp` is the Go variable that holds the version, `tags` leave out what the stack does not
    use; sizes are in MB, for the plan.
    """

    package: str
    stamp: str = ""
    tags: tuple[str, ...] = ()
    binary_mb: int = 0
    fetch_mb: int = 0
    minutes: int = 0


Way = OnPath | Archive | Module
_KINDS: dict[str, type[OnPath] | type[Archive] | type[Module]] = {
    "path": OnPath, "archive": Archive, "module": Module,
}  # fmt: skip


@dataclass(frozen=True)
class Component:
    """One program of the stack; without an `optional` one, `up` goes on and says so.

    `signal` is what it keeps, if anything: traces, metrics, logs or profiles. One that is
    `on_request` is no part of a stack where nobody asks for it by its name. `ports` are by what
    they are for; `inner` ones are for the other components only, on loopback. `arrived` and
    `discarded` are its own counters by their names in Prometheus; of metrics `arrived` counts
    samples, of whatever origin. `image` is its project's for clusters, `command` what starts that
    one if it has no entry point, `memory_mb` what a pod of it may take. One `in_memory` keeps
    nothing on a disk.
    `prefix` stands there for the `otelcol_` of a program that is made of the Collector's
    parts, so that its figures are not taken for the Collector's. `source` is its type of data
    source in Grafana, `plugin` says that Grafana does not come with that one. `user` is the number
    that its image runs as, 0 if any will do.
    """

    name: str
    title: str
    version: str
    licence: str
    ways: tuple[Way, ...] = ()
    signal: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)
    inner: tuple[str, ...] = ()
    arrived: str = ""
    discarded: str = ""
    prefix: str = ""
    source: str = ""
    plugin: bool = False
    image: str = ""
    command: tuple[str, ...] = ()
    user: int = 0
    memory_mb: int = 0
    in_memory: bool = False
    optional: bool = False
    on_request: bool = False
    modules: Path = field(default=MODULES)

    @property
    def metrics(self) -> str:
        """The port at which it tells metrics of itself."""
        return "metrics" if "metrics" in self.ports else "http"


def keepers(signal: str) -> list[Component]:
    """Those that can keep a signal, in the order of the catalog."""
    return [component for component in known().values() if component.signal == signal]


@cache
def known() -> Mapping[str, Component]:
    """The components of the shipped catalog by name."""
    return load()


def load(path: Path = CATALOG) -> dict[str, Component]:
    """The components by name, in the order of the file; InputError if an entry is wrong."""
    with path.open("rb") as stream:
        entries = tomllib.load(stream).get("components", [])
    return {entry["name"]: _component(entry, path) for entry in entries}


def _component(entry: Mapping[str, Any], path: Path) -> Component:
    try:
        ways = tuple(_way(way) for way in entry.get("ways", ()))
        listed = {key: tuple(entry.get(key, ())) for key in ("inner", "command")}
        return Component(**{**entry, **listed, "ways": ways})
    except (TypeError, KeyError) as error:
        raise InputError(
            f"{path}: the component {entry.get('name')!r} is wrong: {error}.",
            next_step="Correct the entry; those beside it show the keys.",
        ) from None


def _way(entry: Mapping[str, Any]) -> Way:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in entry.items()
        if key != "kind"
    }
    return _KINDS[entry["kind"]](**values)
