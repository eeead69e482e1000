"""Runs the project's playbooks: progress is told, Ansible's own words are kept in a log."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from harness.errors import CommandError, HarnessError, NeedError
from harness.linux import processes
from harness.targets import openssh
from harness.targets.vm import failures
from harness.targets.vm.inventory import program
from harness.targets.vm.progress import CLAIMS, Event, Progress

PLAYBOOKS = Path(__file__).resolve().parents[3] / "playbooks"
_LOOK_SECONDS = 0.2
_HANG_UP_SECONDS = 10.0
_GIVE_BACK_SECONDS = 90.0
RENEWAL_SECONDS = 600.0
"""How often hosts are claimed for longer: their claim counts for an hour."""
_ENVIRONMENT = {
    "ANSIBLE_CALLBACKS_ENABLED": "harness_events",
    "ANSIBLE_CALLBACK_PLUGINS": str(PLAYBOOKS / "callback_plugins"),
    "ANSIBLE_DEPRECATION_WARNINGS": "0",
    "ANSIBLE_FORKS": "10",
    "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1",
    "ANSIBLE_LOCALHOST_WARNING": "0",
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_PIPELINING": "1",
    "ANSIBLE_RETRY_FILES_ENABLED": "0",
    # its own, but for compression: what is copied are images and programs; and a host that is
    # switched off in the middle of a task is noticed
    "ANSIBLE_SSH_ARGS": " ".join(
        f"-o {each}" for each in ("ControlMaster=auto", "ControlPersist=60s", *openssh.ALIVE)
    ),
    "ANSIBLE_STDOUT_CALLBACK": "default",
    "LC_ALL": "C.UTF-8",  # it refuses any other encoding; and what sudo says is known in English
}


@dataclass(frozen=True)
class Counts:
    """How many tasks ended how on a host."""

    ok: int
    changed: int
    failed: int
    unreachable: int


Recap = Mapping[str, Counts]
"""By the host's name in the inventory."""


def play(
    playbook: str,
    inventory: Path | Sequence[Path],
    variables: Mapping[str, Any],
    log: Path,
    said: Callable[[str], None],
    *,
    check: bool = False,
    limit: Sequence[str] = (),
    alone: Callable[[str], None] = lambda _: None,
) -> Recap:
    """Run a playbook of PLAYBOOKS to its end; with `check` it only looks what would change.

    `limit` are the hosts, where not all of the inventory are meant. `variables` are read from a
    file that nobody else may read, and win over the inventory's. What fails on a host is an error
    that says what, why and what to do. `alone` is told each host when it is claimed and nobody else
    has any: before that nothing is done there. Claims are renewed while it runs, and given back
    where it does not end well.
    """
    inventories = [inventory] if isinstance(inventory, Path) else list(inventory)
    progress, run = Progress(said, alone), _Run(inventories, variables, log)
    try:
        words = [*(["--check"] if check else []), *_limit(limit)]
        code = _follow(run, playbook, progress, words)
        if progress.failures:
            raise failures.explain(progress.failures, log)
        if code or progress.recap is None:
            raise _not_run(playbook, log)
    except BaseException:
        _give_back(run, progress.claimed)
        raise
    return {host: _counts(found) for host, found in progress.recap.items()}


@dataclass(frozen=True)
class _Run:
    """What the playbooks of one run are given."""

    inventories: Sequence[Path]
    variables: Mapping[str, Any]
    log: Path

    @contextlib.contextmanager
    def begun(
        self, playbook: str, words: Sequence[str] = ()
    ) -> Iterator[tuple[processes.Process, Path]]:
        """One that runs, and the file of its events; at the end it is ended."""
        with tempfile.TemporaryDirectory(prefix="harness-ansible-") as folder:
            place = Path(folder)
            (place / "variables.json").write_text(json.dumps(dict(self.variables)))
            argv = [program("ansible-playbook"), f"--extra-vars=@{place}/variables.json", *words]
            argv += [f"--inventory={each}" for each in self.inventories]
            events = place / "events"
            events.touch()
            environment = {
                **_ENVIRONMENT,
                "ANSIBLE_LOCAL_TEMP": str(place / "tmp"),
                "ANSIBLE_SSH_CONTROL_PATH_DIR": str(place / "ssh"),
                "HARNESS_EVENTS": str(events),
            }
            argv += [str(PLAYBOOKS / playbook)]
            process = processes.spawn(argv, log=self.log, env=environment)
            try:
                yield process, events
            finally:
                processes.stop(process)
                _hang_up(place / "ssh")


def _follow(run: _Run, playbook: str, progress: Progress, words: Sequence[str]) -> int:
    """Its exit code; what happens meanwhile is told."""
    with (
        run.begun(playbook, words) as (process, events),
        events.open("rb") as stream,
        contextlib.closing(_Renewal(run)) as renewal,
    ):
        lines, is_over = _Lines(stream), False
        try:
            while not is_over:
                is_over = processes.await_end(process, _LOOK_SECONDS)
                for event in lines.read():
                    progress.take(event)
                renewal.look()
            return processes.ended(process, 0.0)
        except BaseException:
            with contextlib.suppress(HarnessError, OSError):
                processes.stop(process)
            _take_claims(events, progress)
            raise


def _take_claims(events: Path, progress: Progress) -> None:
    """Those of a run that was stopped, all again: some came since the last look, or were at hand.

    What hinders that hides no other error; nor does the rest of a line that was being written.
    """
    with contextlib.suppress(OSError):
        for line in events.read_bytes().splitlines():
            with contextlib.suppress(HarnessError, OSError, ValueError):
                event = json.loads(line)
                if event["role"] == CLAIMS:  # of no other one is anything to be told any more
                    progress.take(event)


class _Renewal:
    """Claims hosts for longer, from time to time, beside what runs there.

    Whether that worked is not asked: the playbook itself looks between its plays, and the next time
    comes before a claim has ended.
    """

    def __init__(self, run: _Run) -> None:
        self._run, self._running = run, contextlib.ExitStack()
        self._process: processes.Process | None = None
        self._due = time.monotonic() + RENEWAL_SECONDS

    def look(self) -> None:
        """Begin the next one when it is due, and end it when it is over."""
        if self._process is not None and processes.await_end(self._process, 0.0):
            self.close()
        if self._process is None and time.monotonic() >= self._due:
            self._due = time.monotonic() + RENEWAL_SECONDS
            with contextlib.suppress(HarnessError, OSError):
                self._process, _ = self._running.enter_context(self._run.begun("renew.yml"))

    def close(self) -> None:
        """End it."""
        self._process = None
        with contextlib.suppress(HarnessError, OSError):
            self._running.close()


def _give_back(run: _Run, reached: Sequence[str]) -> None:
    """Let others have the hosts that were reached; what hinders that hides no other error."""
    if reached:
        with (
            contextlib.suppress(HarnessError, OSError),
            run.begun("ended.yml", _limit(reached)) as (process, _),
        ):
            processes.await_end(process, _GIVE_BACK_SECONDS)


def _limit(names: Sequence[str]) -> list[str]:
    return [f"--limit={','.join(names)}"] if names else []


class _Lines:
    """Whole lines of a file that grows."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._rest = stream, b""

    def read(self) -> Iterator[Event]:
        """Those that came since the last call."""
        *lines, self._rest = (self._rest + self._stream.read()).split(b"\n")
        yield from map(json.loads, lines)


def _hang_up(sockets: Path) -> None:
    """Connections outlive Ansible for the next of its tasks; there is none."""
    for each in sockets.glob("*"):
        with contextlib.suppress(CommandError, NeedError):
            argv = ["ssh", "-o", f"ControlPath={each}", "-O", "exit", "host"]
            processes.run(argv, check=False, timeout=_HANG_UP_SECONDS)


def _counts(found: Mapping[str, int]) -> Counts:
    return Counts(found["ok"], found["changed"], found["failures"], found["unreachable"])


def _not_run(playbook: str, log: Path) -> CommandError:
    return CommandError(
        f"Ansible did not run {playbook}.",
        " ".join(processes.last_words(log, 6)),
        f"{log} has all that it said.",
    )
