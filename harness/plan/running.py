"""A service that runs already and is not ours to start; `cli` reads it, the controller is told."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import InputError
from harness.plan import workloads


@dataclass(frozen=True)
class Running:
    """Where it answers, and one thing by which its processes are found."""

    url: str
    pid: int | None = None
    cgroup: str = ""
    unit: str = ""
    container: str = ""

    def __post_init__(self) -> None:
        """InputError unless it is named once, and by something that can be."""
        named = self.named()
        if len(named) != 1:
            raise InputError(
                f"{' and '.join(named) or 'Nothing'} names the service that runs.",
                next_step="Give one of --pid, --cgroup, --unit, --container.",
            )
        if self.pid is not None and self.pid < 1:
            raise InputError(
                f"There is no process {self.pid}.", next_step="`pgrep -x NAME` says which there is."
            )
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
        }
        return [option for option, value in found.items() if value]
