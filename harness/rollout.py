"""Starts the stack on this machine and takes it down again; called by the commands up and down.

What was started is noted in the ledger, so that another process finds it: each component has a
cgroup of its own, and whatever is in that cgroup is what is ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness import listeners, shell
from harness.errors import ComponentError, InputError, NeedError
from harness.stack import catalog, config, readback, supply
from harness.stack.catalog import Component
from harness.stack.config import PROGRAMS, Stack
from harness.stack.readback import Arrival
from harness.stack.supply import Offer
from harness.targets import cgroup, journal, ledger, mount
from harness.targets.ledger import Running, state

CGROUP = "harness-stack"
READY_SECONDS = 90.0
GRACE_SECONDS = 20.0

Tell = Callable[[str], None]


def home() -> Path:
    """The stack's configuration, data and logs: $XDG_STATE_HOME/harness/stack, removed by down."""
    base = os.environ.get("XDG_STATE_HOME", "")
    state = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state"
    return state / "harness" / "stack"


def plan(components: Sequence[Component], folder: Path) -> list[tuple[Component, Offer | None]]:
    """How each component would be got; changes nothing."""
    return [(component, supply.choose(component, folder)) for component in components]


def select(require: Sequence[str]) -> list[Component]:
    """The catalog's components, those in `require` not optional; InputError if one is unknown."""
    known = catalog.load()
    for name in require:
        if name not in known:
            raise InputError(
                f"There is no component {name!r}.", next_step=f"Choose from {', '.join(known)}."
            )
    return [
        replace(component, optional=component.optional and name not in require)
        for name, component in known.items()
    ]


def require_all(components: Sequence[Component]) -> None:
    """NeedError, with the reasons, if one that is not optional can be had in no way."""
    for component, offer in plan(components, supply.cache()):
        if offer is None and not component.optional:
            supply.get(component, supply.cache())  # which says why not
        if component.name not in PROGRAMS and not component.optional:
            raise NeedError(
                f"{component.title} is not started by this version.",
                next_step=f"Go on without --require {component.name}.",
            )


def up(stack: Stack, components: Sequence[Component], tell: Tell) -> list[Arrival]:
    """Get, configure and start the components, wait until data flows; what arrived, and when.

    Whatever was started is taken down again if it fails.
    """
    ledger.claim(stack.folder, stack.bind)
    try:
        _require_free_ports(stack)
        root, folder = _cgroup_root(), supply.cache()
        started = {c.name: c for c in components if c.name in PROGRAMS}
        programs = {name: supply.get(c, folder, tell) for name, c in started.items()}
        _tidy(folder)
        for name in PROGRAMS:
            start(stack, started[name], programs[name], root)
        for name in PROGRAMS:
            tell(f"{name} is ready after {await_ready(stack, name):.1f} s")
        return readback.prove(stack)
    except BaseException:
        with contextlib.suppress(ComponentError):
            down(keep_logs=True)
        raise


def start(stack: Stack, component: Component, program: Path, root: Path) -> Running:
    """Start one component in its cgroup and note it in the state."""
    arguments = config.write(stack, component.name)
    log = stack.folder / "logs" / f"{component.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    own = root / component.name
    command = (str(program), *arguments)
    planned = Running(component.name, component.version, 0, str(own), str(log), command)
    ledger.note(planned)  # before it exists, so that no crash leaves it unknown
    cgroup.create(own)
    running = replace(planned, pid=shell.detach(command, log=log, cgroup=own))
    ledger.note(running)
    return running


def restart(name: str) -> Running:
    """Start a component that ended, as it was started; NeedError if it never was, or runs."""
    now = state()
    found = [one for one in now.components if one.name == name] if now else []
    if now is None or not found:
        raise NeedError(f"{name} was not started.", next_step="Start the stack: harness up.")
    old = found[0]
    if cgroup.processes(Path(old.cgroup)):
        raise NeedError(f"{name} still runs.", next_step="Nothing is to be done.")
    pid = shell.detach(old.command, log=Path(old.log), cgroup=Path(old.cgroup))
    new = replace(old, pid=pid)
    ledger.note(new)
    return new


def await_ready(stack: Stack, name: str, limit_seconds: float = READY_SECONDS) -> float:
    """Seconds until the component's own endpoint says 200; ComponentError if it never does."""
    began, url = time.monotonic(), PROGRAMS[name].ready(stack)
    while not _answers(url):
        waited = time.monotonic() - began
        if not _lives(name) or waited > limit_seconds:
            why = "ended" if waited <= limit_seconds else f"is not ready after {waited:.0f} s"
            raise ComponentError(f"{name} {why}.", _last_words(name), "Its log says more.")
        time.sleep(0.1)
    return time.monotonic() - began


def down(*, keep_logs: bool = False) -> list[str]:
    """End everything that `up` started and remove its files; says in sentences what was done."""
    now, done = state(), list[str]()
    if now is None:
        return _forget(home())
    for running in reversed(now.components):
        killed = _end(Path(running.cgroup))
        done.append(f"{running.name} was {'killed' if killed else 'ended'}.")
    for parent in {Path(running.cgroup).parent for running in now.components}:
        if parent.exists():
            cgroup.remove(parent)
    folder = Path(now.folder)
    if keep_logs:
        shutil.rmtree(folder / "data", ignore_errors=True)
    else:
        done += _forget(folder)
    ledger.forget()
    return done


def _forget(folder: Path) -> list[str]:
    """Remove the stack's files; what one that did not start left is removed by the next down."""
    if not folder.exists():
        return []
    shutil.rmtree(folder)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()
    return [f"{folder} was removed."]


def _tidy(folder: Path) -> None:
    """Remove what only builds need, unless a component is still to be built."""
    chosen = plan([c for c in catalog.load().values() if not c.optional], folder)
    if all(offer is not None and offer.ready for _, offer in chosen):
        supply.tidy(folder)


def _lives(name: str) -> bool:
    now = state()
    return any(
        bool(cgroup.processes(Path(one.cgroup)))
        for one in (now.components if now else ())
        if one.name == name
    )


def _last_words(name: str) -> str:
    now = state()
    logs = [Path(one.log) for one in (now.components if now else ()) if one.name == name]
    lines = logs[0].read_text(errors="replace").splitlines()[-3:] if logs else []
    return " ".join(lines)[:600]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _end(path: Path) -> bool:
    """SIGTERM to all in the cgroup, then SIGKILL after the grace; whether that was needed."""
    if not path.exists():
        return False
    for pid in cgroup.processes(path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while cgroup.processes(path) and time.monotonic() < deadline:
        time.sleep(0.05)
    return cgroup.remove(path) > 0


def _cgroup_root() -> Path:
    root = mount.find("cgroup2")
    if root is None or journal.DIRECTORY in root.parents:
        raise NeedError(
            "cgroup v2 is not mounted.",
            "Each component gets a cgroup, so that its cost is known and all of it can be ended.",
            "Mount it: mount -t cgroup2 none /sys/fs/cgroup/unified.",
        )
    path = root / CGROUP
    cgroup.create(path)
    path.rmdir()  # only tried: nothing may stay if a later check fails
    return path


def _require_free_ports(stack: Stack) -> None:
    for port, name in _ports(stack):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((stack.bind, port))
            except OSError as error:
                holder = listeners.holder(port)
                raise NeedError(
                    f"{name} cannot listen on {stack.bind}:{port}: {error.strerror}.",
                    f"It is held by {holder}." if holder else "",
                    "Stop what listens there, or choose another address with --bind.",
                ) from error


def _ports(stack: Stack) -> Iterator[tuple[int, str]]:
    for name, program in PROGRAMS.items():
        for port in program.listens(stack.ports):
            yield port, name
