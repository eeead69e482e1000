"""How a program that outlives the harness is kept; `lifecycle` starts and ends components by it.

Where systemd runs, each is a transient unit of it, else a process that leads a session of its own.
Either way it has its own cgroup, and whatever is in that cgroup is what is ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import NeedError
from harness.linux import cgroup, mount, processes, undo_journal
from harness.stack.ledger import Running

SYSTEMD = Path("/run/systemd/system")
"""Exists where systemd is the init that runs: sd_booted(3)."""
GRACE_SECONDS = 10.0


def address(group: str, name: str) -> tuple[Path, str]:
    """The cgroup of a group's component, and its unit, empty where systemd does not run.

    It is that of no run, however that is called. Creates nothing that stays; NeedError if this
    machine lets us have no cgroup.
    """
    root = mount.find("cgroup2")
    if root is None or undo_journal.DIRECTORY in root.parents:
        raise NeedError(
            "cgroup v2 is not mounted.",
            "Each component gets a cgroup, so that its cost is known and all of it can be ended.",
            "Mount it: mount -t cgroup2 none /sys/fs/cgroup/unified.",
        )
    if SYSTEMD.is_dir():
        unit = f"{cgroup.PARENT}-{group}-{name}.service"
        return root / _slice(group) / unit, unit
    own = root / cgroup.PARENT / group
    if not own.exists():
        cgroup.create(own)
        cgroup.remove(own)  # only tried: nothing may stay if a later check fails
    return own / name, ""


def start(group: str, running: Running) -> Running:
    """Start the command of what is planned, or ended; with its pid and its cgroup as they are."""
    own = Path(running.cgroup)
    if running.unit:
        processes.run(_systemd_run(group, running))
        pid, path = _shown(running.unit)
        root = mount.find("cgroup2")
        return replace(running, pid=pid, cgroup=f"{root}{path}" if path else running.cgroup)
    cgroup.create(own)
    pid = processes.detach(
        running.command, log=Path(running.log), cgroup=own, env=running.environment
    )
    return replace(running, pid=pid)


def end(running: Running) -> str:
    """SIGTERM to all of it, then SIGKILL after the grace; what happened, to follow its name.

    ComponentError or CommandError if it cannot be ended.
    """
    path = Path(running.cgroup)
    if running.unit:
        processes.run(["systemctl", "stop", running.unit], check=False, timeout=GRACE_SECONDS + 30)
        if path.exists():
            cgroup.remove(path)
        return "was stopped by systemd"
    if not path.exists():
        return "had ended"
    late = cgroup.terminate(path, GRACE_SECONDS) > 0
    cgroup.remove(path)
    return f"did not end within {GRACE_SECONDS:.0f} s and was killed" if late else "was ended"


def clear(group: str, ended: Sequence[Running]) -> None:
    """Remove what held the cgroups of a group whose components have ended."""
    if any(one.unit for one in ended):  # a slice stays active when its last unit goes
        processes.run(["systemctl", "stop", _slice(group)], check=False)
    for parent in {Path(one.cgroup).parent for one in ended}:
        if parent.name in (group, _slice(group)) and parent.exists():
            cgroup.remove(parent)


def _slice(group: str) -> str:
    """Without dashes, which nest slices: nothing above it is made that would stay."""
    return f"{cgroup.PARENT}_{group}.slice"


def _systemd_run(group: str, running: Running) -> list[str]:
    properties = {
        "Type": "exec",  # a program that cannot be executed fails here and not later
        "CPUAccounting": "yes",
        "MemoryAccounting": "yes",
        "TimeoutStopSec": f"{GRACE_SECONDS:.0f}",
        "WorkingDirectory": str(Path(running.log).parent),
        "StandardOutput": f"append:{running.log}",
        "StandardError": f"append:{running.log}",
    }
    return [
        "systemd-run", "--quiet", "--collect",
        f"--unit={running.unit}", f"--slice={_slice(group)}",
        *(f"--property={key}={value}" for key, value in properties.items()),
        *(f"--setenv={key}={value}" for key, value in running.environment.items()),
        "--", *running.command,
    ]  # fmt: skip


def _shown(unit: str) -> tuple[int, str]:
    """The pid of the unit's first process and its cgroup, from the root of all cgroups."""
    done = processes.run(["systemctl", "show", "--property=MainPID,ControlGroup", unit])
    values = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    return int(values.get("MainPID", "0")), values.get("ControlGroup", "")
