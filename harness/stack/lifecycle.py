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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import ComponentError, HarnessError, NeedError
from harness.linux import cgroup, ports
from harness.stack import catalog, config, ledger, readback, selection, supervisor, supply
from harness.stack.catalog import Component
from harness.stack.config import PROGRAMS, Stack, grafana
from harness.stack.config.description import KEEPS
from harness.stack.ledger import Running, state
from harness.stack.readback import Arrival
from harness.stack.selection import Role as Role
from harness.stack.selection import plan as plan
from harness.stack.selection import require_all as require_all
from harness.stack.selection import select as select

GROUP = "stack"
READY_SECONDS = 90.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Started:
    """What `up` saw: seconds from a component's start until it was ready, and what arrived when.

    `seconds` is from the first start until one of each signal was found where it is kept.
    """

    stack: Stack
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
    roles = select(require)
    require_all(roles)
    started = up(Stack(home()), roles, tell)
    failed = False
    try:
        yield started.stack
    except Exception:
        failed = True
        raise
    finally:
        for line in down(keep_logs=failed):
            tell(line)


def _found(now: ledger.State, require: Sequence[str]) -> Stack:
    have = [one.name for one in now.components]
    if list(PROGRAMS)[-1] not in have:  # it is started last
        raise NeedError(
            "The stack is being started, or its start was killed.",
            next_step="Wait until it is up, or take it down: harness down.",
        )
    if lacking := [name for name in require if name not in have]:
        raise NeedError(
            f"The stack that is up has no {' and no '.join(lacking)}.",
            next_step="Take it down first: harness down.",
        )
    stack = standing(now)
    for name in have:
        await_ready(stack, name)
    return stack


def standing(now: ledger.State) -> Stack:
    """The stack that is noted: where it is, and who keeps what."""
    return Stack(Path(now.folder), now.bind, _keeps([one.name for one in now.components]))


def missing(now: ledger.State) -> list[str]:
    """What a stack lacks to take all that collectors send: signals that nobody keeps, its end."""
    have = [one.name for one in now.components]
    lacks = [signal for signal in KEEPS if signal not in _keeps(have)]
    return lacks + [name for name in ("otelcol",) if name not in have]


def _keeps(names: Sequence[str]) -> dict[str, str]:
    """Signal -> who of these keeps it."""
    known = catalog.known()
    return {known[n].signal: n for n in names if n in known and known[n].signal}


def up(stack: Stack, roles: Sequence[Role], tell: Tell) -> Started:
    """Get, configure and start who takes each role, wait until data flows.

    An optional one that cannot be had is left out. Whatever was started is taken down again if it
    fails; its logs stay unless it was interrupted.
    """
    ledger.claim(stack.folder, stack.bind)
    try:
        _require_free_ports(stack, [c.component for c in plan(roles, supply.cache()) if c.offer])
        for role in roles:
            supervisor.address(GROUP, role.name)
        got = filter(None, (selection.get(role, supply.cache(), tell) for role in roles))
        wanted, programs = _in_order(got)
        stack = replace(stack, keeps=_keeps(list(wanted)), plugins=grafana.plugins())
        _require_free_ports(stack, wanted.values())
        _tidy(supply.cache())
        began = {}
        for name, component in wanted.items():
            began[name] = time.monotonic()
            start(stack, component, programs[name])
        ready = _await_all(stack, began, tell)
        arrivals = readback.prove(stack)
        return Started(stack, ready, arrivals, time.monotonic() - min(began.values()))
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


def _in_order(
    got: Iterable[tuple[Component, Path]],
) -> tuple[dict[str, Component], dict[str, Path]]:
    """What is to be started and its programs, in the order of PROGRAMS."""
    had = {component.name: (component, program) for component, program in got}
    names = [name for name in PROGRAMS if name in had]
    return {name: had[name][0] for name in names}, {name: had[name][1] for name in names}


def _tidy(folder: Path) -> None:
    """Remove what only builds need, unless a component is still to be built."""
    chosen = plan([role for role in select(()) if not role.optional], folder)
    if all(choice.offer is not None and choice.offer.ready for choice in chosen):
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


def _require_free_ports(stack: Stack, components: Iterable[Component]) -> None:
    for component in components:
        for use in component.ports:
            address, port = stack.address(component.name, use), stack.port(component.name, use)
            ports.require_free(address, port, component.name)
