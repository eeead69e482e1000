"""What is noted of the stack that was started, below /run/harness; for `lifecycle`.

The journal is not the place: what it names ends with the process that wrote it, the stack does not.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from harness.errors import NeedError
from harness.linux import undo_journal
from harness.wire.files import write_whole

DIRECTORY = undo_journal.DIRECTORY / "stack"


@dataclass(frozen=True)
class Running:
    """A component that was started; `pid` is of its first process, `log` what it prints.

    `unit` is that of systemd, empty where the process is kept by us; see `supervisor`.
    """

    name: str
    version: str
    pid: int
    cgroup: str
    log: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""


@dataclass(frozen=True)
class State:
    """What `up` started: where its files are and each component."""

    folder: str
    bind: str
    components: tuple[Running, ...] = ()


def state() -> State | None:
    """What is up now, or None; also after a restart of the machine, when its cgroups are gone.

    NeedError if it was noted by a version that notes other things.
    """
    path = DIRECTORY / "state.json"
    try:
        data = json.loads(path.read_text())
        components = tuple(
            Running(**{**one, "command": tuple(one["command"])}) for one in data.pop("components")
        )
        return State(**data, components=components)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise NeedError(
            f"What is noted of the stack in {path} cannot be read: {error}.",
            next_step=f"End what is in the cgroups harness/stack/*, then remove {DIRECTORY}.",
        ) from error


def claim(folder: Path, bind: str) -> None:
    """Note that a stack is being started; NeedError if one is, by whomever."""
    require_root()
    draft = DIRECTORY / f"claim-{secrets.token_hex(4)}"  # a pid may be another's elsewhere
    with _writing():
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_text(json.dumps(asdict(State(str(folder), bind))))
            os.link(draft, DIRECTORY / "state.json")  # whole or not at all, and only once
        except FileExistsError:
            raise NeedError(
                "The stack is up already, or is being started.",
                next_step="Take it down first: harness down.",
            ) from None
        finally:
            draft.unlink(missing_ok=True)


def require_root() -> None:
    """NeedError if the stack could be neither started nor ended."""
    if os.geteuid() != 0:
        raise NeedError(
            "Root is needed.",
            f"Each component gets a cgroup, and what was started is noted in {DIRECTORY}.",
            "Run the command again with sudo.",
        )


def note(running: Running) -> None:
    """Add a component to the claimed stack, or replace what is noted of it."""
    now = state()
    assert now is not None
    others = [one for one in now.components if one.name != running.name]
    with _writing():
        text = json.dumps(asdict(replace(now, components=(*others, running))))
        write_whole(DIRECTORY / "state.json", text, lasting=True)


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NeedError(
            f"What is started cannot be noted in {DIRECTORY}: {error.strerror}.",
            "Nothing is started that `harness down` would not find again.",
            f"Make room in {DIRECTORY.parents[1]}.",
        ) from error


def forget() -> None:
    """Nothing of the stack is left."""
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    with contextlib.suppress(OSError):
        DIRECTORY.parent.rmdir()
