"""A systemd unit's cgroup and first process, as systemctl tells them; for services that run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CommandError, InputError, NeedError
from harness.linux import processes

SYSTEMD = Path("/run/systemd/system")
"""Exists where systemd is the init that runs: sd_booted(3)."""

_UNIT = re.compile(r"[^/]+\.(?:service|scope|socket|slice|mount|swap)")
_GATHERS = re.compile(r"session-.*\.scope$|.*\.slice$")
_SHOWN = "Id,LoadState,ActiveState,ControlGroup,MainPID"
_OTHERWISE = "Name the service by --pid, --cgroup or --container instead."


@dataclass(frozen=True)
class Unit:
    """A unit that runs: its full name, its cgroup as systemd writes it, its main pid or 0."""

    name: str
    control_group: str
    main_pid: int


def find(name: str) -> Unit:
    """The unit of this name, `.service` if it has no suffix.

    InputError if it does not run; NeedError where systemd does not.
    """
    if not SYSTEMD.is_dir():
        raise NeedError(
            f"The unit {name!r} cannot be found: systemd does not run here.",
            f"{SYSTEMD} does not exist.",
            _OTHERWISE,
        )
    try:
        done = processes.run(
            ["systemctl", "show", f"--property={_SHOWN}", "--", name], check=False, timeout=20
        )
    except (NeedError, CommandError) as error:
        raise NeedError(f"systemd cannot be asked for {name!r}.", error.what, _OTHERWISE) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["It says nothing."])[-1]
        raise NeedError(f"systemd does not answer for the unit {name!r}.", last, _OTHERWISE)
    return parse(name, done.stdout)


def parse(name: str, shown: str) -> Unit:
    """What `systemctl show` prints; InputError if the unit does not exist or does not run."""
    told = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    if told.get("LoadState") != "loaded":
        raise InputError(
            f"There is no unit {name!r}.",
            f"systemd says: {told.get('LoadState', 'nothing')}.",
            "`systemctl list-units` shows those that run; units of a user are found by --pid.",
        )
    if not told.get("ControlGroup"):
        raise InputError(
            f"The unit {told.get('Id', name)} does not run: it is {told.get('ActiveState')}.",
            "It has no cgroup, so there is nothing to measure.",
            f"Start it: systemctl start {told.get('Id', name)}.",
        )
    return Unit(told.get("Id", name), told["ControlGroup"], int(told.get("MainPID") or 0))


def of(path: str) -> str:
    """The unit whose cgroup this is, or lies in; empty if there is none that `find` would find.

    Slices and sessions hold what does not belong together, and users' units are not systemd's own.
    """
    parts = path.split("/")
    if any(part.startswith("user@") for part in parts):
        return ""
    named = [part for part in parts if _UNIT.fullmatch(part)]
    return next((part for part in reversed(named) if not _GATHERS.match(part)), "")


def is_of_systemd(path: str) -> bool:
    """Whether a cgroup is kept by systemd: a unit's, a slice's, or below one."""
    return any(_UNIT.fullmatch(part) for part in path.split("/"))


def active(*names: str) -> list[str]:
    """Those of these units that are active; none where systemd cannot be asked, as in a pod."""
    if not names or not SYSTEMD.is_dir():
        return []
    try:
        # one line each, in their order; it ends with 3 if any is not
        done = processes.run(["systemctl", "is-active", "--", *names], check=False, timeout=20)
    except (NeedError, CommandError):
        return []
    states = done.stdout.split()
    return [name for name, state in zip(names, states, strict=False) if state == "active"]
