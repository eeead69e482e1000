"""A service that runs already and is not ours to start; `cli` reads it, the controller is told."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from harness.errors import InputError
from harness.plan import workloads
from harness.plan.url import without_login
from harness.plan.workloads import Workload
from harness.wire.spec import Found


@dataclass(frozen=True)
class Running:
    """Where it answers, and one thing by which its processes are found."""

    url: str = field(repr=False)
    pid: int | None = None
    cgroup: str = ""
    unit: str = ""
    container: str = ""
    workload: str = ""

    def __post_init__(self) -> None:
        """InputError unless it is named once, and by something that can be."""
        named = self.named()
        if len(named) != 1:
            raise InputError(
                f"{' and '.join(named)} each name a service that runs."
                if named
                else "Nothing names the service that runs.",
                next_step="Give one of --pid, --cgroup, --unit, --container, --workload.",
            )
        if self.pid is not None and self.pid < 1:
            raise InputError(
                f"There is no process {self.pid}.", next_step="`pgrep -x NAME` says which there is."
            )
        if self.workload and not self.url:
            return  # its pods say on which port they answer
        if not self.url:
            raise InputError(
                f"{named[0]} needs --url too.",
                "Without load there is no cost of a request.",
                "Say where the service answers: --url http://127.0.0.1:PORT/.",
            )
        workloads.address(self.url)

    def named(self) -> list[str]:
        """The options that name it."""
        found = {
            "--pid": self.pid is not None,
            "--cgroup": self.cgroup,
            "--unit": self.unit,
            "--container": self.container,
            "--workload": self.workload,
        }
        return [option for option, value in found.items() if value]

    def name(self) -> str:
        """What it is called in the report: by what names it, in letters that a folder may have.

        A container's id may say whose it is, as Kubernetes writes it: containerd://ID.
        """
        container = self.container.rpartition("://")[2][:12]
        said = self.unit.removesuffix(".service") or Path(self.cgroup).name or container
        said = said or self.workload.rpartition("/")[2]
        slug = re.sub(r"[^a-z0-9]+", "-", said.lower()).strip("-") or f"pid-{self.pid}"
        return f"own-{slug}" if slug in workloads.names() else slug


def service(running: Running, locustfile: Path | None = None) -> Workload:
    """A service that runs, as one that is measured; `Found` is what a node is told."""
    name = running.name()
    url, login = without_login(running.url)
    path = urlsplit(url).path
    if locustfile is not None or path == "/":
        url = url.rstrip("/")  # locustfiles add paths to it, which begin with one
    if locustfile is not None and not locustfile.is_file():
        raise InputError(
            f"There is no locustfile {locustfile}.", next_step="Give the path of one that is there."
        )
    return Workload(
        name=name,
        command=(),
        directory=Path.cwd(),
        description=f"runs already, found by {' '.join(running.named())}",
        primary=path or "/",
        locustfile=locustfile.resolve() if locustfile is not None else None,
        url=url,
        running=Found(
            name=name, url=url, pid=running.pid or 0, cgroup=running.cgroup,
            unit=running.unit, container=running.container, workload=running.workload,
        ),
        login=login,
    )  # fmt: skip
