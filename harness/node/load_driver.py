"""The orchestration's side of the load driver: starts its process and tells it what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from harness.errors import LoadError, StoreError
from harness.linux import processes
from harness.load import LOGIN
from harness.load.schedule import WHOLE, Share
from harness.model import Arrivals
from harness.wire import failures
from harness.wire.control import Client, ControlError
from harness.wire.files import is_full

READY_SECONDS = 60.0
MARGIN_SECONDS = 30.0
Answer = Callable[[], dict[str, Any]]
_DOING = {"capacity": "find the service's capacity"}  # of commands that are no verbs


@dataclass(frozen=True)
class Capacity:
    """Tasks answered well a second in a closed loop, and the driver's share of one CPU meanwhile.

    Well is 2xx, 3xx, and what the locustfile calls a success. `refused`: all other requests a
    second; `failures`: how many there were, by kind; `redirects`: the share that was answered 3xx.
    """

    rate: float
    cpu_share: float
    refused: float = 0.0
    failures: Mapping[str, int] = field(default_factory=dict)
    redirects: float = 0.0

    def told(self) -> str:
        """What it is, in a phrase."""
        text = f"{self.rate:,.0f} a second were answered well"
        if not self.failures:
            return text
        return f"{text}, {self.refused:,.0f} a second were not ({failures.told(self.failures)})"


@dataclass(frozen=True)
class LoadSummary:
    """A phase: `requests` recorded, `errors` among them, how late slots were given out (p99, ms),
    the driver's share of one CPU, and why its latencies are not to be trusted, if so.

    `failures`: how many failed, by kind; a request whose connection was closed before its answer
    is one, and is not sent again; `first_failed` is the first, as `POST /login`. `due_per_second`
    is the rate of the arrivals as they were drawn. `clock`: of a driver on another node, how its
    clock was told. `workers`: of several processes that are one load, what each of them did;
    `late_p99_ms` and `cpu_share` are then the most.
    """

    requests: int
    errors: int
    late_p99_ms: float
    cpu_share: float
    saturated: bool
    reason: str
    failures: Mapping[str, int] = field(default_factory=dict)
    first_failed: str = ""
    due_per_second: float = 0.0
    clock: Mapping[str, int] = field(default_factory=dict)
    workers: Sequence[Mapping[str, float]] = ()


class LoadDriver(Protocol):
    """What drives a service, on this node or another; every method but `stop` may raise LoadError,
    those that write a file StoreError if the disk is full.

    Times are of this node's CLOCK_MONOTONIC, those in the files as well.
    """

    def capacity(self, seconds: float) -> Capacity:
        """Drive as fast as the answers come, for that long."""
        ...

    def start(self, rate: float | None, requests: int | None = None) -> int:
        """Begin `rate` arrivals a second, for ever or `requests` of them; returns when (ns).

        Without a rate it is a closed loop: whoever has an answer asks again, until `finish`.
        """
        ...

    def aim(self, twin: bool) -> int:
        """From when on (ns) the twin, or the first service again, gets what becomes due."""
        ...

    def finish(self, path: Path) -> LoadSummary:
        """End the phase and write its requests to `path`, see record.read."""
        ...

    def wait(self, path: Path) -> LoadSummary:
        """Wait until the phase's `requests` were made, then as finish."""
        ...

    def stop(self) -> None:
        """End it; safe to call again. ComponentError if it cannot be ended."""
        ...


class Driver:
    """A running load driver; `with Driver(...)` ends it. Every method may raise LoadError, those
    that write a file StoreError if the disk is full.

    The process runs in `cgroup` on `cpus`; `control` is a socket path that it makes and removes.
    Without a locustfile it requests the URL itself. With a `twin_url` it has `connections` more,
    to that service, and `aim` chooses between the two. `login` is user:password, percent-encoded
    as in a URL; nobody but root can read it from the process. Of several drivers that are one load
    it has this `share`. One that is not `awaited` is ready only after `await_ready`.
    """

    def __init__(
        self,
        url: str,
        twin_url: str = "",
        *,
        control: Path,
        log: Path,
        login: str = "",
        locustfile: Path | None = None,
        connections: int = 16,
        seed: int = 0,
        arrivals: Arrivals = "periodic",
        cgroup: Path | None = None,
        cpus: Sequence[int] = (),
        share: Share = WHOLE,
        awaited: bool = True,
    ) -> None:
        argv = [sys.executable, "-m", "harness.load", "--url", url, "--control", str(control)]
        argv += ["--connections", str(connections), "--seed", str(seed), "--arrivals", arrivals]
        if twin_url:
            argv += ["--twin-url", twin_url]
        if locustfile is not None:
            argv += ["--locustfile", str(locustfile)]
        if share.workers > 1:
            argv += ["--worker", str(share.worker), "--workers", str(share.workers)]
        self._control, self._log, self.lasts_seconds = control, log, 0.0
        self._aiming: Client | None = None
        env = {LOGIN: login} if login else None
        self.process = processes.spawn(argv, log=log, env=env, cgroup=cgroup, cpus=cpus)
        if awaited:
            self.await_ready()

    @property
    def pid(self) -> int:
        """The process to meter."""
        return self.process.pid

    def capacity(self, seconds: float) -> Capacity:
        """Drive as fast as the answers come, for that long."""
        return Capacity(**self._call("capacity", seconds, seconds=seconds))

    def start(self, rate: float | None, requests: int | None = None) -> int:
        """Begin `rate` arrivals a second, or a closed loop; returns when (ns)."""
        self.expect(rate, requests)
        return int(self._call("start", rate=rate, requests=requests)["at_ns"])

    def aim(self, twin: bool) -> int:
        """From when on (ns) the twin, or the first service again, gets what becomes due."""
        try:
            if self._aiming is None:  # kept until the next other command: to connect takes time
                self._aiming = Client(self._control, MARGIN_SECONDS)
            return int(self._aiming.call("aim", twin=twin)["at_ns"])
        except (ControlError, OSError) as error:
            raise self._failed("aim", error) from error

    def finish(self, path: Path) -> LoadSummary:
        """End the phase and write its requests to `path`, see record.read."""
        return LoadSummary(**self._call("finish", path=str(path)))

    def wait(self, path: Path) -> LoadSummary:
        """Wait until the phase's `requests` were made, then as finish."""
        return LoadSummary(**self._call("wait", self.lasts_seconds, path=str(path)))

    def stop(self) -> None:
        """End the process; safe to call again. ComponentError if it cannot be ended."""
        self._hang_up()
        processes.stop(self.process)
        self._control.unlink(missing_ok=True)

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def expect(self, rate: float | None, requests: int | None) -> None:
        """Note how long the phase will last that is about to be begun, if it ends by itself."""
        self.lasts_seconds = (requests or 0) / (rate or 1.0)

    def gone(self, cmd: str) -> LoadError | StoreError | None:
        """Why it cannot be told to do this, if its process has ended."""
        return self._failed(cmd, OSError()) if self.process.poll() is not None else None

    def ask(self, cmd: str, takes_seconds: float = 0.0, /, **arguments: Any) -> Answer:
        """Tell it what to do; what is returned waits for the answer, and must be called."""
        self._hang_up()
        with ExitStack() as ends:
            try:
                client = ends.enter_context(Client(self._control, takes_seconds + MARGIN_SECONDS))
                client.send(cmd, **arguments)
            except (ControlError, OSError) as error:
                raise self._failed(cmd, error) from error
            ends.pop_all()

        def answer() -> dict[str, Any]:
            try:
                with client:
                    return client.receive()
            except (ControlError, OSError) as error:
                raise self._failed(cmd, error) from error

        return answer

    def _call(self, cmd: str, takes_seconds: float = 0.0, /, **arguments: Any) -> dict[str, Any]:
        return self.ask(cmd, takes_seconds, **arguments)()

    def _hang_up(self) -> None:
        """The process serves one connection at a time."""
        if self._aiming is not None:
            self._aiming.close()
            self._aiming = None

    def _failed(self, cmd: str, error: Exception) -> LoadError | StoreError:
        if isinstance(error, ControlError) and is_full(error.number):
            return StoreError(
                "The disk is full to which the load driver writes its requests.",
                f"{error}.",
                "Make room there, then resume.",
            )
        code = self.process.poll()
        why = str(error) if code is None else f"It ended ({code}). {self._last_words()}"
        what = f"The load driver failed to {_DOING.get(cmd, cmd)}."
        return LoadError(what, why, f"Its log is {self._log}.")

    def await_ready(self) -> None:
        """Wait until it can be told what to do; it is ended, and LoadError raised, if it cannot."""
        try:
            self._await_ready()
        except BaseException:
            self.stop()
            raise

    def _await_ready(self) -> None:
        answer = processes.announced(self.process, READY_SECONDS)
        if answer is None:
            raise LoadError(
                "The load driver did not start.", self._last_words(), f"Its log is {self._log}."
            )
        if not answer["ready"]:
            raise LoadError(answer["what"], answer["why"], answer["next_step"])

    def _last_words(self) -> str:
        return " ".join(processes.last_words(self._log))
