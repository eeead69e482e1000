"""The services that are measured: those in workloads/ and the user's own; for `cli`, `evaluate`."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.errors import InputError, NeedError
from harness.wire.spec import Found

__all__ = ["Build", "Route", "Workload", "load", "names", "own"]

SHIPPED = Path(__file__).resolve().parents[2] / "workloads"


@dataclass(frozen=True)
class Route:
    """A route as a server names it, an example path (`{n}`: a number), its share of the load."""

    name: str
    path: str
    weight: int = 1


@dataclass(frozen=True)
class Build:
    """What must exist, and from what it is made; relative to the workload's folder."""

    output: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Workload:
    """A service that can be started; the fields are workload.toml's keys.

    `command` may hold {port}, {python} and {dir}. With a `url` the program is the user's own: it
    must answer there. Without one it prints `{"ready": true, "port": N}`.
    """

    name: str
    command: tuple[str, ...]
    directory: Path
    language: str = ""
    description: str = ""
    primary: str = "/"
    routes: tuple[Route, ...] = ()
    build: Build | None = None
    locustfile: Path | None = None
    url: str = ""
    running: Found | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_own(self) -> bool:
        """Whether it is the user's, not one that ships."""
        return bool(self.url)

    def argv(self, port: int = 0) -> list[str]:
        """The command on this port; 0 lets the program pick one."""
        words = {"{port}": str(port), "{python}": sys.executable, "{dir}": str(self.directory)}
        return [
            re.sub(r"\{(port|python|dir)\}", lambda match: words[match[0]], word)
            for word in self.command
        ]

    def check(self) -> None:
        """NeedError if it cannot be started: not built, built of older sources, no interpreter."""
        program = self.argv()[0]
        if self.build is not None and not _is_fresh(self.directory, self.build):
            raise NeedError(
                f"The workload {self.name!r} is not built, or is older than its source.",
                next_step="Run `make workloads`.",
            )
        if shutil.which(program) is None and not (self.directory / program).is_file():
            raise NeedError(
                f"{program} is not installed, or not executable.",
                f"{self.name!r} needs it.",
                "Install it, or give its path as the first word of the command.",
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; the inverse of `from_dict`."""
        data = dataclasses.asdict(self)
        paths = {key: data[key] and str(data[key]) for key in ("directory", "locustfile")}
        return {**data, **paths}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Workload:
        """What `to_dict` made, or a workload.toml with its `directory`."""
        build, locustfile = data.get("build"), data.get("locustfile")
        values = {
            **data,
            "command": tuple(data["command"]),
            "directory": Path(data["directory"]),
            "routes": tuple(Route(**route) for route in data.get("routes", ())),
            "build": Build(build["output"], tuple(build["sources"])) if build else None,
            "locustfile": Path(locustfile) if locustfile else None,
            "running": Found(**data["running"]) if data.get("running") else None,
        }
        return cls(**values)


def names() -> list[str]:
    """The workloads that ship."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/workload.toml"))


def load(name: str) -> Workload:
    """A workload that ships, ready to be started; InputError, NeedError if it is not."""
    if name not in names():
        raise InputError(
            f"There is no workload {name!r}.", next_step=f"Those that ship: {', '.join(names())}."
        )
    folder = SHIPPED / name
    data = tomllib.loads((folder / "workload.toml").read_text())
    workload = Workload.from_dict(
        {**data, "directory": folder, "locustfile": folder / "locustfile.py"}
    )
    workload.check()
    return workload


def own(command: str | None, url: str | None, locustfile: Path | None = None) -> Workload:
    """The user's program: started by `command` in the current directory, answering at `url`."""
    try:
        words = shlex.split(command or "")
    except ValueError as error:
        raise InputError(
            f"--command cannot be read: {error}.",
            command or "",
            "Quote it as a shell would read it, the whole in single quotes.",
        ) from error
    if not words or not url:
        raise InputError(
            "A program of your own needs both --command and --url.",
            next_step="Say how it is started and where it answers.",
        )
    address(url)
    if locustfile is not None and not locustfile.is_file():
        raise InputError(
            f"There is no locustfile {locustfile}.",
            next_step="Give its path, or leave --locustfile out: GET of --url is asked then.",
        )
    name = re.sub(r"[^a-z0-9]+", "-", Path(words[0]).name.lower()).strip("-") or "own"
    workload = Workload(
        name=f"own-{name}" if name in names() else name,
        command=tuple(words),
        directory=Path.cwd(),
        description=command or "",
        primary=urlsplit(url).path or "/",
        locustfile=locustfile.resolve() if locustfile is not None else None,
        url=url.rstrip("/") if locustfile is not None or urlsplit(url).path == "/" else url,
    )
    workload.check()
    return workload


def _is_fresh(folder: Path, build: Build) -> bool:
    output = folder / build.output
    if not output.exists():
        return False
    return all(
        (folder / source).stat().st_mtime <= output.stat().st_mtime for source in build.sources
    )


def address(url: str) -> tuple[str, int]:
    """Host and port of a service's URL; InputError if it has none."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii():
            raise ValueError(url)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{url} is not a URL of a service.", next_step="Say http://127.0.0.1:PORT/."
        ) from error
    return parts.hostname or "127.0.0.1", port
