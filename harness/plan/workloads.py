"""The services that are measured: those in workloads/, the user's own; for `asked`, `resolved`."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.errors import InputError, NeedError
from harness.plan import command as commands
from harness.plan.url import HIDDEN, PORT, address, hidden, without_login
from harness.wire.spec import Found

__all__ = ["Build", "Route", "Workload", "address", "again", "load", "names", "own"]

OWN = "own"  # what an experiment calls a service that is told by options
SHIPPED = Path(__file__).resolve().parents[2] / "workloads"


@dataclass(frozen=True)
class Route:
    """A route as a server names it, an example path (`{n}`: a number), its share of the load.

    With `close` each request to it ends its connection.
    """

    name: str
    path: str
    weight: int = 1
    close: bool = False


@dataclass(frozen=True)
class Build:
    """What must exist, and from what it is made; relative to the workload's folder."""

    output: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Workload:
    """A service that can be started; the fields are workload.toml's keys.

    `command` and `environment` may hold {host}, {port}, {python} and {dir}. With a `url` the
    program is the user's own: it must answer there; with {port} in it, at a port that is chosen
    for each process. Without one it prints `{"ready": true, "port": N}`.
    `login` (user:password, percent-encoded) is for the load driver alone and is never stored.
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
    login: str = field(default="", repr=False)

    @property
    def is_own(self) -> bool:
        """Whether it is the user's, not one that ships."""
        return bool(self.url)

    @property
    def has_twins(self) -> bool:
        """Whether two processes of it can answer at once, each at a port of its own."""
        return self.running is None and (not self.url or PORT in self.url)

    def argv(self, port: int = 0) -> list[str]:
        """The command on this port; 0 lets the program pick one."""
        words = {
            "{host}": "127.0.0.1", "{port}": str(port), "{python}": sys.executable,
            "{dir}": str(self.directory),
        }  # fmt: skip
        return [
            re.sub(r"\{(host|port|python|dir)\}", lambda match: words[match[0]], word)
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
        """JSON-able, to be stored; the inverse of `from_dict`, but a login is HIDDEN."""
        data = dataclasses.asdict(self)
        paths = {key: data[key] and str(data[key]) for key in ("directory", "locustfile")}
        return {**data, **paths, "login": HIDDEN if self.login else ""}

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
    if name == OWN:
        raise InputError(
            "The experiment measures a service of your own, and it is not said which.",
            next_step="Give --command and --url, or --url and one of --pid, --cgroup, --unit, "
            "--container; in a cluster --workload NAMESPACE/DEPLOYMENT.",
        )
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


def own(
    command: str | None, url: str | None, locustfile: Path | None = None, *, here: bool = True
) -> Workload:
    """The user's program: started by `command` in the current directory, answering at `url`.

    With {port} in both each process of it gets a port of its own, so that two can be compared.
    If it is not to run `here`, it is started in / there, and whether it exists is for the node to
    say.
    """
    environment, words = commands.parse(command or "", here=here)
    if not words or not url:
        raise InputError(
            "A program of your own needs both --command and --url.",
            next_step="Say how it is started and where it answers.",
        )
    if PORT in url and not any(PORT in word for word in (*words, *environment.values())):
        raise InputError(
            f"--url {hidden(url)} leaves the port open, and --command does not take it.",
            "Each process of your program is to get a port of its own.",
            "Say {port} in --command where its port stands, as in './server --port {port}'.",
        )
    place, login = without_login(url)
    address(_with_a_port(url))
    path = urlsplit(place).path
    if locustfile is not None and not locustfile.is_file():
        raise InputError(
            f"There is no locustfile {locustfile}.",
            next_step="Give its path, or leave --locustfile out: GET of --url is asked then.",
        )
    name = re.sub(r"[^a-z0-9]+", "-", Path(words[0]).name.lower()).strip("-") or "own"
    workload = Workload(
        name=f"own-{name}" if name in names() else name,
        command=words,
        directory=Path.cwd() if here else Path("/"),
        description=command or "",
        primary=path or "/",
        locustfile=locustfile.resolve() if locustfile is not None else None,
        url=place.rstrip("/") if locustfile is not None or path == "/" else place,
        environment=environment,
        login=login,
    )
    if here:
        workload.check()
    return workload


def _with_a_port(url: str) -> str:
    """The URL of one process; InputError if {port} stands where no port does."""
    place, _ = without_login(url)
    if PORT in place and (not urlsplit(place).netloc.endswith(f":{PORT}") or place.count("{") > 1):
        raise InputError(
            f"--url {hidden(url)} leaves more or another thing open than the port.",
            next_step="Say {port} where a port stands, as in http://127.0.0.1:{port}/.",
        )
    return url.replace(PORT, "1")


def again(stored: Mapping[str, Any], url: str = "") -> Workload:
    """The user's service as a run stored it; `url` only to give a login again, which is not kept.

    InputError if it is missing, or is another URL.
    """
    workload = Workload.from_dict(stored)
    place, login = without_login(url)
    if workload.login != HIDDEN and not url:
        return workload
    if not login or workload.login != HIDDEN or place.rstrip("/") != workload.url.rstrip("/"):
        raise InputError(
            f"The run asks its service at {workload.url}"
            + (" with a login, which is not kept." if workload.login else ", without a login."),
            next_step="Give --resume with --url http://USER:PASSWORD@..., the same URL as before."
            if workload.login
            else "Give --resume without --url.",
        )
    return dataclasses.replace(workload, login=login)


def _is_fresh(folder: Path, build: Build) -> bool:
    output = folder / build.output
    if not output.exists():
        return False
    return all(
        (folder / source).stat().st_mtime <= output.stat().st_mtime for source in build.sources
    )
