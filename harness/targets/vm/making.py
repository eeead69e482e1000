"""What a maker of machines is asked and answers; for `containers`, `qemu` and `machines`."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.errors import ComponentError
from harness.linux import processes

FIRST = 11  # the last number of the first machine's address
BOOT_SECONDS = 90.0
_LOOK_SECONDS = 0.2

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """Machines of one cluster: they carry `mark`, and nothing else does; `folder` is theirs."""

    cluster: str
    mark: str
    image: str
    folder: Path
    unaccelerated: bool = False


@dataclass(frozen=True)
class Made:
    """A machine that was made: how it is reached, and the key by which it is known to be it."""

    name: str
    address: str
    host_key: str
    user: str = "root"


class Maker(Protocol):
    """Makes machines of one kind; what it made is known by the mark, also to a later process."""

    def check(self) -> None:
        """InputError or NeedError if it can make none here; changes nothing."""
        ...

    def make(self, names: Sequence[str], public_key: str, tell: Tell) -> list[Made]:
        """So many machines that let this key in, each listening for ssh."""
        ...

    def start(self) -> None:
        """Let those run again that were stopped, as by a restart of this machine."""
        ...

    def remove(self) -> None:
        """Remove all that was made with this mark; safe to call again."""
        ...

    def left(self) -> list[str]:
        """What is there of them, in sentences."""
        ...


def key(folder: Path) -> Path:
    """A new key that opens the machines, with its public half beside it."""
    file = folder / "key"
    for each in (file, public(file)):
        each.unlink(missing_ok=True)
    processes.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "harness", "-f", str(file)])
    return file


def public(key: Path) -> Path:
    """The public half of a key."""
    return key.with_name(f"{key.name}.pub")


def await_ssh(name: str, address: str, seconds: float, hint: str) -> None:
    """Until something listens at its port 22; ComponentError if nothing does by then."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection((address, 22), 2):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise ComponentError(
                    f"The machine {name} was made and is not reached by ssh.",
                    f"{address}, port 22: {error}.",
                    hint,
                ) from error
        time.sleep(_LOOK_SECONDS)
