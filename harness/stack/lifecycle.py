"""Starts the stack on this machine and takes it down again; called by the commands up and down.

What was started is noted in the ledger, so that another process finds it: each component has a
cgroup of its own, and whatever is in that cgroup is what is ended.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ComponentError, HarnessError, NeedError
from harness.linux import cgroup, ports
from harness.stack import catalog, config, ledger, readback, supervisor, supply
from harness.stack.catalog import Component
from harness.stack.config import PROGRAMS, Stack
from harness.stack.ledger import Running, state
from harness.stack.readback import Arrival
from harness.stack.selection import plan as plan
from harness.stack.selection import require_all as require_all
from harness.stack.selection import select as select

GROUP = "stack"
READY_SECONDS = 90.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Started:
    """What `up` saw: seconds from a component's start until it was ready, and what arrived when.

    `seconds` is from the first start until one of each signal was found in its backend.
    """

    ready: Mapping[str, float]
    arrivals: Sequence[Arrival]
    seconds: float


def home() -> Path:
    """The stack's configuration, data and logs: $XDG_STATE_HOME/harness/stack, removed by down."""
    base = os.environ.get("XDG_STATE_HOME", "")
    state = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state"
    return state / "harness" / "stack"


@contextlib.contextmanager
def borrowed(tell: Tell, require: Sequence[str] = ()) -> Iterator[Stack]:
    """The stack that is up; where none is, one that is started now and taken down at the end.

    NeedError if `require` names what it lacks or cannot have, ComponentError if a part of it ended.
    """
    now = state()
    if now is not None:
        yield _found(now, require)
        return
    stack, components = Stack(home()), select(require)
    require_all(components)
    up(stack, components, tell)
    failed = False
    try:
        yield stack
    except Exception:
        failed = True
        raise
    finally:
        for line in down(keep_logs=failed):
            tell(line)


def _found(now: ledger.State, require: Sequence[str]) -> Stack:
    have = [one.name for one in now.components]
    if list(PROGRAMS)[-1] not in have:
        raise NeedError(
            "The stack is being started, or its start was killed.",
            next_step="Wait until it is up, or take it down: harness down.",
        )
    if missing := [name for name in require if name not in have]:
        raise NeedError(
            f"The stack that is up has no {' and no '.join(missing)}.",
            next_step="Take it down first: harness down.",
        )
    stack = Stack(Path(now.folder), now.bind)
    for name in have:
        await_ready(stack, name)
    return stack


def up(stack: Stack, components: Sequence[Component], tell: Tell) -> Started:
    """Get, configure and start the components, wait until data flows.

    An optional one that cannot be had is left out. Whatever was started is taken down again if it
    fails; its logs stay unless it was interrupted.
    """
    ledger.claim(stack.folder, stack.bind)
    try:
        wanted = _wanted(components)
        _require_free_ports(stack, wanted)
        for name in wanted:
            supervisor.address(GROUP, name)
        programs = {name: supply.get(c, supply.cache(), tell) for name, c in wanted.items()}
        _tidy(supply.cache())
        began = {}
        for name, component in wanted.items():
            began[name] = time.monotonic()
            start(stack, component, programs[name])
        ready = _await_all(stack, began, tell)
        arrivals = readback.prove(stack)
        return Started(ready, arrivals, time.monotonic() - min(began.values()))
    except BaseException as error:
        try:
            down(keep_logs=isinstance(error, Exception))
        except HarnessError as left:
            tell(f"Not all of it could be ended: {left}")
        raise


def start(stack: Stack, component: Component, program: Path) -> Running:
    """Start one component in its cgroup and note it in the state."""
    name, log = component.name, stack.folder / "logs" / f"{component.name}.log"
    command = (str(program), *config.write(stack, name))
    environment = PROGRAMS[name].environment(stack)
    log.parent.mkdir(parents=True, exist_ok=True)
    own, unit = supervisor.address(GROUP, name)
    planned = Running(
        name, component.version, 0, str(own), str(log), command, dict(environment), unit
    )
    ledger.note(planned)  # before it exists, so that no crash leaves it unknown
    running = supervisor.start(GROUP, planned)
    ledger.note(running)
    return running


def restart(name: str) -> Running:
    """Start a component that ended, as it was started; NeedError if it never was, or runs."""
    old = _noted(name)
    if old is None:
        raise NeedError(f"{name} was not started.", next_step="Start the stack: harness up.")
    if cgroup.processes(Path(old.cgroup)):
        raise NeedError(f"{name} still runs.", next_step="Nothing is to be done.")
    new = supervisor.start(GROUP, old)
    ledger.note(new)
    return new


def await_ready(stack: Stack, name: str, limit_seconds: float = READY_SECONDS) -> float:
    """Seconds until the component's own endpoint says 200; ComponentError if it never does."""
    return _await_all(stack, {name: time.monotonic()}, lambda _: None, limit_seconds)[name]


def _await_all(
    stack: Stack, began: Mapping[str, float], tell: Tell, limit_seconds: float = READY_SECONDS
) -> dict[str, float]:
    ready = dict[str, float]()
    while len(ready) < len(began):
        for name in [name for name in began if name not in ready]:
            answers, waited = _answers(PROGRAMS[name].ready(stack)), time.monotonic() - began[name]
            if answers:
                ready[name] = waited
                tell(f"{name} is ready after {waited:.1f} s")
            elif not _lives(name) or waited > limit_seconds:
                why = "ended" if waited <= limit_seconds else f"is not ready after {waited:.0f} s"
                raise ComponentError(f"{name} {why}.", _last_words(name), "Its log says more.")
        time.sleep(0.1)
    return ready


def down(*, keep_logs: bool = False) -> list[str]:
    """End everything that `up` started and remove its files; says in sentences what was done.

    HarnessError, and what is noted stays noted, if something of it cannot be ended.
    """
    now, done, failed = state(), list[str](), list[HarnessError]()
    if now is None:
        return _forget(home())
    ledger.require_root()
    for running in reversed(now.components):
        try:
            done.append(f"{running.name} {supervisor.end(running)}.")
        except HarnessError as error:  # the others are ended all the same
            failed.append(error)
    if failed:
        raise failed[0]
    supervisor.clear(GROUP, now.components)
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


def _wanted(components: Sequence[Component]) -> dict[str, Component]:
    """What is to be started, in the order of PROGRAMS, without the optional that cannot be had."""
    had = {c.name: c for c, offer in plan(components, supply.cache()) if offer or not c.optional}
    return {name: had[name] for name in PROGRAMS if name in had}


def _tidy(folder: Path) -> None:
    """Remove what only builds need, unless a component is still to be built."""
    chosen = plan([c for c in catalog.load().values() if not c.optional], folder)
    if all(offer is not None and offer.ready for _, offer in chosen):
        supply.tidy(folder)


def _noted(name: str) -> Running | None:
    now = state()
    return next((one for one in now.components if one.name == name), None) if now else None


def _lives(name: str) -> bool:
    noted = _noted(name)
    return noted is not None and bool(cgroup.processes(Path(noted.cgroup)))


def _last_words(name: str) -> str:
    noted = _noted(name)
    lines = Path(noted.log).read_text(errors="replace").splitlines()[-3:] if noted else []
    return " ".join(lines)[:600]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def _require_free_ports(stack: Stack, names: Mapping[str, Component]) -> None:
    for name in names:
        for port in PROGRAMS[name].listens(stack.ports):
            ports.require_free(stack.address(port), port, name)
