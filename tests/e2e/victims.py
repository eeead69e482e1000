"""Evaluations that are to be killed: cheap to start, and several at once; for `test_kill`.

Each is a fork of the test's process, which has imported everything, with a /run of its own: so each
has a journal of its own, and none refuses to run beside the others. Their cgroups differ by the
names of their runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import json
import os
import signal
import struct
import sys
import termios
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.linux import processes
from harness.linux.procfs import HOST
from harness.node import machine
from harness.node.__main__ import ANSWERS
from harness.targets.local import Local
from harness.wire import codec
from tests.waiting import until

EXPERIMENT = """
workloads = ["plain"]
seed = 2
blocks = 2
warmup_seconds = 0
warmup_limit_seconds = 0.5
settle_seconds = 0.2
switched_seconds = 0.8
steady_seconds = 0.5
metered_seconds = 0.3
calibration_seconds = 0.5
replacements = 0
loads = {plain = {rate = 100}}
[[arms]]
name = "baseline"
[[arms]]
name = "http"
collectors = ["http"]
"""
ROOT = Path(__file__).resolve().parents[2]
TRIALS = 3  # of each block
LEASE_SECONDS = 2.0  # of `short_lease`
SMALLEST_PIPE = 8192  # bytes: more than one message, and less than a trial's files
LONG = 180.0  # seconds that something may take which must happen
_PDEATHSIG, _NEW_MOUNTS, _BIND, _PRIVATE = 1, 0x20000, 0x1000, 0x44000
_LIBC = ctypes.CDLL(None, use_errno=True)
_number = itertools.count()

Prepare = Callable[[], None]
"""Changes something in the forked process before it begins."""


def await_(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait until it holds."""
    assert until(condition, LONG), f"waited in vain for {what()}"


class Victim:
    """A `harness` command that runs on `cpus`; `folder` has its log, its /run, its run."""

    def __init__(
        self, folder: Path, cpus: set[int], *words: object, prepare: Sequence[Prepare] = ()
    ) -> None:
        self._cpus = cpus
        self.folder, self.log = folder, folder / f"log-{next(_number)}"
        self._code: int | None = None
        (folder / "run").mkdir(exist_ok=True)
        self.log.touch()
        self.pid = os.fork()
        if self.pid == 0:
            aside = partial(os.sched_setaffinity, 0, cpus)
            _become(folder, self.log, [str(word) for word in words], [aside, *prepare])

    def said(self) -> str:
        """What it printed so far."""
        return self.log.read_text()

    def ended(self) -> bool:
        """Whether it has."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code is not None

    def wait(self) -> int:
        """Its exit code, or the signal that killed it, negative."""
        await_(self.ended, lambda: f"its end; it said {self.said()!r}")
        assert self._code is not None
        return self._code

    def end(self) -> None:
        """However it is; it undoes what it did if it can."""
        for number in (signal.SIGCONT, signal.SIGTERM):
            if not self.ended():
                os.kill(self.pid, number)
        with contextlib.suppress(AssertionError):
            self.wait()
        if not self.ended():
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def reach(self, what: str, times: int = 1) -> None:
        """Wait until it has told of this phase so often."""

        def reached() -> bool:
            assert self.said().count(what) >= times or not self.ended(), self.said()
            return self.said().count(what) >= times

        await_(reached, lambda: f"{what!r}; it said {self.said()!r}")

    def node(self) -> int:
        """The node process of an evaluation."""
        return min(self._those(lambda argv: argv[1:] == ["-m", "harness.node"]))

    def has_agent(self) -> bool:
        """Whether a collector's agent runs."""
        return bool(self._those(lambda argv: argv[1:3] == ["-m", "harness.agent"]))

    def relay(self, argv: Sequence[str]) -> int:
        """A part of what `relayed` puts between it and its node."""
        (found,) = self._those(lambda other: other == list(argv))
        return found

    def harness(self, *words: object) -> processes.Completed:
        """Another command to its end, where this one ran."""
        bind = 'mount --bind "$0" /run && exec "$@"'
        argv = ["unshare", "--mount", "sh", "-c", bind, str(self.folder / "run")]
        argv += ["taskset", "--cpu-list", ",".join(map(str, self._cpus))]
        argv += [sys.executable, "-m", "harness", *map(str, words)]
        return processes.run(argv, check=False, timeout=LONG, cwd=ROOT)

    def left(self) -> list[str]:
        """What it left on the machine that can still be undone, in sentences."""
        return machine.leftovers(self.folder / "run" / "harness")

    def _those(self, wanted: Callable[[list[str]], bool]) -> list[int]:
        return [pid for pid in HOST.family(self.pid) if wanted(HOST.argv(pid))]


class Evaluation(Victim):
    """`harness evaluate` of the experiment above, as the run `name`."""

    def __init__(self, folder: Path, cpus: set[int], prepare: Sequence[Prepare] = ()) -> None:
        self.name = f"kill-{os.getpid()}-{next(_number)}"
        experiment = folder / "small.toml"
        experiment.write_text(EXPERIMENT)
        self.run = folder / self.name
        words = ["evaluate", experiment, "--reports", folder, "--run", self.name]
        super().__init__(folder, cpus, *words, prepare=[*prepare, no_report, asked_here])

    def about(self) -> dict[str, Any]:
        """What run.json says."""
        found: dict[str, Any] = json.loads((self.run / "run.json").read_text())
        return found

    def statuses(self, block: int) -> list[str]:
        """Those of the trials of a block that are stored."""
        found = sorted(self.run.glob(f"trials/*-b{block}-*/trial.json"))
        return [str(json.loads(path.read_text())["status"]) for path in found]


@contextlib.contextmanager
def held_while_sending(victim: Victim, reader: int) -> Iterator[None]:
    """Its node is in the middle of sending a trial's files: nobody reads, and the pipe is full.

    `reader` is the process that reads from the node; it goes on at the end, if it is still there.
    """
    victim.reach("http (switched)")
    await_(victim.has_agent, lambda: "a collector: it was told before it was asked for")
    os.kill(reader, signal.SIGSTOP)
    try:
        with _output_pipe(victim.node(), reader) as pipe:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
            await_(lambda: _waiting_bytes(pipe) > SMALLEST_PIPE // 2, lambda: "a full pipe")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(reader, signal.SIGCONT)


@contextlib.contextmanager
def _output_pipe(writer: int, reader: int) -> Iterator[int]:
    """The pipe from the one to the other; held, it would have no end.

    A node has others for a moment, which end at a process that it starts.
    """
    read = {pipe for _, pipe in _pipes(reader, 0o400)}
    (path,) = {path for path, pipe in _pipes(writer, 0o200) if pipe in read}
    pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield pipe
    finally:
        os.close(pipe)


def _pipes(pid: int, mode: int) -> Iterator[tuple[Path, str]]:
    """The descriptors of a process that are open in this mode to pipes, and which pipe each is."""
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it was closed meanwhile
            pipe = os.readlink(path)
            if pipe.startswith("pipe:") and path.lstat().st_mode & mode:
                yield path, pipe


def _waiting_bytes(pipe: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0])


def no_report() -> None:
    """Its report is not what is killed, and takes longer than the rest."""
    from harness.cli import evaluation

    setattr(evaluation, "_finish", lambda *_, **__: True)  # noqa: B010


def asked_here() -> None:
    """What the machine is, without another interpreter."""

    def ask(_self: Local, question: str, *about: Any) -> Any:
        return ANSWERS[question](*map(codec.dump, about))

    setattr(Local, "ask", ask)  # noqa: B010


def relayed() -> None:
    """Two processes between a controller and its node, of which either can be killed."""
    connect = processes.connect

    def through(argv: Sequence[str], **how: Any) -> processes.Process:
        return connect(["sh", "-c", 'cat -u | "$@" | cat', "sh", *argv], **how)

    setattr(processes, "connect", through)  # noqa: B010


TO_NODE, FROM_NODE = ("cat", "-u"), ("cat",)


def short_lease() -> None:
    """Each side gives the other one up after seconds, where a user's waits for minutes."""
    from harness.controller import evaluate, node
    from harness.targets import channel

    session = node.session

    def short(run: str, **how: Any) -> Any:
        return replace(session(run, **how), lease_seconds=LEASE_SECONDS)

    setattr(evaluate, "session", short)  # noqa: B010
    node.PING_SECONDS, node.SILENT_SECONDS = LEASE_SECONDS / 4, 4 * LEASE_SECONDS
    channel.END_SECONDS = LEASE_SECONDS


def import_all() -> None:
    """What an evaluation imports, once for all of them."""
    from harness import cli
    from harness.cli import asked
    from harness.controller import beginning, evaluate
    from harness.report import build

    assert all((cli, asked, beginning, evaluate, build))


def _become(folder: Path, log: Path, words: list[str], prepare: Sequence[Prepare]) -> None:
    """Be the command, in the forked process; never returns."""
    code = 99
    try:
        os.setsid()
        _LIBC.prctl(_PDEATHSIG, signal.SIGTERM)
        _own_run(folder / "run")
        _print_to(log)
        warnings.resetwarnings()
        for step in prepare:
            step()
        code = _command(words)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _own_run(place: Path) -> None:
    for result in (
        _LIBC.unshare(_NEW_MOUNTS),
        _LIBC.mount(b"none", b"/", None, _PRIVATE, None),
        _LIBC.mount(os.fsencode(place), b"/run", None, _BIND, None),
    ):
        if result:
            raise OSError(ctypes.get_errno(), "no /run of its own")


def _print_to(log: Path) -> None:
    sink = os.open(log, os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, wanted in enumerate((nothing, sink, sink)):
        os.dup2(wanted, descriptor)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))


def _command(words: list[str]) -> int:
    from harness import cli

    sys.argv = ["harness", *words]
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 98
    return 0
