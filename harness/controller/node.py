"""The controller's end of the pipe to a node process; `evaluate` and `block` ask through it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar

from harness import __version__
from harness.controller.clocks import Exchange
from harness.errors import HarnessError, NodeError, StoreError
from harness.model import Comparison, WindowRow
from harness.results.folder import writing
from harness.targets.base import Channel
from harness.wire import codec
from harness.wire.code import digest
from harness.wire.driving import Answer, Ask, Call, OfCluster
from harness.wire.frames import PIECE, Frame, FrameError, Reader, pack
from harness.wire.spec import (
    BlockReady,
    BlockSpec,
    Hello,
    Session,
    TrialResult,
    TrialSpec,
)

PING_SECONDS = 15.0
SILENT_SECONDS = 900.0  # nothing that a node does takes so long without an answer to a ping
CLOSE_SECONDS = 60.0
CLOCK_SECONDS = 20.0  # a node that is asked for its clock waits for a command; nobody pings others

Tell = Callable[[str], None]
T = TypeVar("T")


class Beside(Protocol):
    """Somebody whose lease runs while we wait for another node."""

    def hears(self) -> None:
        """Let it know that we are there; one that is lost is left alone."""
        ...


class Node:
    """A node process with a session; NodeError from every method when it is lost.

    Files that it sends go below `folder`, once that is known; where it speaks of its own folder,
    the text says that one instead. What it asks for load from another node `drives` does, what it
    asks of the cluster that it is in `places`; a node `beside` it is pinged as well, since it must
    hear us while we wait for this one.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel, self._reader = channel, Reader(channel.receive)
        self.folder: Path | None = None
        self.lost = False
        self.drives: Ask | None = None
        self.places: Ask | None = None
        self.beside: Beside | None = None
        self._work = ""
        self._windows: list[WindowRow] = []  # of the trial under way
        self._pings, self._requests = 0, list[bytes]()

    def open(self, session: Session, tell: Tell) -> Hello:
        """Begin the session; the error of a machine on which nothing can be measured."""
        hello = self._loaded(Hello, self._ask("hello", tell, "open", session=session)["hello"])
        self._work = hello.work
        return hello

    def block(self, spec: BlockSpec, tell: Tell) -> BlockReady:
        """Start the service and warm it up."""
        return self._loaded(BlockReady, self._ask("ready", tell, "block", block=spec)["block"])

    def trial(self, spec: TrialSpec, tell: Tell) -> TrialResult:
        """Run a trial; its files are below `folder` when this returns."""
        self._windows = []
        found = self._loaded(TrialResult, self._ask("done", tell, "trial", trial=spec)["result"])
        windows, self._windows = tuple(self._windows), []
        details = dict(found.details)
        if "warnings" in details:
            details["warnings"] = self._here(details["warnings"])
        (service,) = self._here([found.service])
        return replace(found, windows=windows, details=details, service=service)

    def stored(self, spec: TrialSpec) -> None:
        """The trial is on the disk: the node may forget it."""
        self._send("ack", trial=spec.name)

    def end_block(self, tell: Tell) -> list[str]:
        """End the service; what could not be ended, in sentences."""
        return self._here(self._ask("done", tell, "end_block").get("warnings", ()))

    def send_results(self, run: str, rows: Sequence[Comparison]) -> None:
        """Into the stack that takes the telemetry; ComponentError if it refuses them."""
        self._ask("done", lambda _: None, "results", run=run, rows=[vars(row) for row in rows])

    def drive(self, call: Call, silent_seconds: float) -> Answer:
        """What the load driver on this node does; LoadError if it fails.

        It is lost if it says nothing for `silent_seconds`, what it was asked for included.
        """
        self._requests.clear()
        asked = self._ask("driven", lambda _: None, "drive", silent_seconds, call=call)
        found = asked["found"]
        return found, b"".join(self._requests)

    def clock(self) -> Exchange:
        """Its CLOCK_MONOTONIC, and ours before and after; only while it waits for us."""
        self._pings += 1
        asked_ns = time.monotonic_ns()
        self._send("ping", number=self._pings)
        while True:
            try:
                frame = self._read(CLOCK_SECONDS)
            except TimeoutError:
                raise self._loss(f"it said nothing for {CLOCK_SECONDS:.0f} s") from None
            answered_ns = time.monotonic_ns()
            if frame.kind == "pong" and frame.head.get("number") == self._pings:
                return Exchange(asked_ns, int(frame.head["at_ns"]), answered_ns)
            self._meanwhile(frame, lambda _: None)

    def close(self) -> list[str]:
        """End the session and the process; what could not be undone, in sentences. Never raises.

        That may take minutes, in which a node beside it hears of us.
        """
        said: list[str] = []
        try:
            if not self.lost:
                self._send("close")
                said = self._last_words()
        except HarnessError as error:
            said = [str(error)]
        self.lost = True
        try:
            self._channel.close(self._ping_beside)
        except HarnessError as error:
            said.append(str(error))
        return said

    def _loaded(self, kind: type[T], data: Any) -> T:
        try:
            return codec.load(kind, data)
        except codec.MalformedError as error:
            raise self._loss(f"what it sent cannot be read: {error}") from error

    def _last_words(self) -> list[str]:
        """What comes after `close`: the rest of what was under way, and of the files."""
        pinged = time.monotonic()
        deadline = pinged + CLOSE_SECONDS
        while (now := time.monotonic()) < deadline:
            if now - pinged >= PING_SECONDS:
                self._ping_beside()
                pinged = now
            with contextlib.suppress(TimeoutError):
                frame = self._read(max(0.0, min(deadline, pinged + PING_SECONDS) - now))
                deadline = time.monotonic() + CLOSE_SECONDS  # it speaks
                if frame.kind == "file":
                    with contextlib.suppress(StoreError):  # told of already, if the disk is full
                        self._keep(frame)
                elif frame.kind == "closed":
                    return self._here(frame.head["warnings"])
        return [f"The node did not say within {CLOSE_SECONDS:.0f} s that it has undone everything."]

    def _ask(
        self, wanted: str, tell: Tell, kind: str, silent_seconds: float = 0.0, **specs: Any
    ) -> Mapping[str, Any]:
        allowed = silent_seconds or SILENT_SECONDS
        self._send(kind, **{name: codec.dump(spec) for name, spec in specs.items()})
        heard = pinged = time.monotonic()
        while True:
            now = time.monotonic()
            if now - pinged >= PING_SECONDS:  # also while it speaks: it must hear us
                self.ping()
                pinged = now
            until = min(pinged + PING_SECONDS, heard + allowed)
            try:
                frame = self._read(max(0.0, until - now))
            except TimeoutError:
                if time.monotonic() - heard >= allowed:
                    raise self._loss(f"it said nothing for {allowed:.0f} s") from None
                continue
            heard = time.monotonic()
            if frame.kind == wanted:
                return frame.head
            self._meanwhile(frame, tell)

    def ping(self) -> None:
        """Let it hear that we are there, and a node beside it."""
        self._send("ping")
        self._ping_beside()

    def hears(self) -> None:
        """Let it alone hear that we are there."""
        with contextlib.suppress(NodeError):  # whoever asks it next finds that it is lost
            self._send("ping")

    def _ping_beside(self) -> None:
        if self.beside is not None:
            self.beside.hears()

    def _meanwhile(self, frame: Frame, tell: Tell) -> None:
        if frame.kind == "pong":
            return
        if frame.kind == "phase":
            tell(str(frame.head["what"]))
        elif frame.kind == "file":
            self._keep(frame)
        elif frame.kind == "windows":
            self._windows += [self._loaded(WindowRow, row) for row in frame.head["rows"]]
        elif frame.kind == "ask":
            self._answer(frame)
        elif frame.kind == "requests":
            self._requests.append(frame.body)
        elif frame.kind == "failed":
            raise HarnessError.from_dict(self.translated(frame.head["error"]))
        else:
            raise self._loss(f"it sent {frame.kind!r}, which nobody asked for")

    def _answer(self, frame: Frame) -> None:
        """Do what it asks for; what fails is told to it, as its own driver would."""
        call = self._loaded(Call, frame.head["call"])
        do = self.places if isinstance(call.does, OfCluster) else self.drives
        if do is None:
            raise self._loss(f"it asked for {type(call.does).__name__}, which nobody does for it")
        try:
            found, requests = do(call)
        except HarnessError as error:
            if self.lost:
                raise
            self._send("answer", error=error.to_dict())
            return
        for start in range(0, len(requests), PIECE):
            self._send("requests", requests[start : start + PIECE])
        self._send("answer", found=dict(found))

    def translated(self, told: Mapping[str, Any]) -> dict[str, str]:
        """An error's sentences, with the paths that the files have on this side."""
        return dict(zip(told, self._here(told.values()), strict=True))

    def _here(self, texts: Iterable[Any]) -> list[str]:
        """What a node says, with the run's folder for its own."""
        if self.folder is None or not self._work:
            return list(map(str, texts))
        return [str(text).replace(self._work, str(self.folder)) for text in texts]

    def _keep(self, frame: Frame) -> None:
        """Append a piece of a file; nothing outside of the run's folder is ever written."""
        name = PurePosixPath(str(frame.head["name"]))
        if name.is_absolute() or ".." in name.parts:
            raise self._loss(f"it sent a file for {name}")
        if self.folder is None:
            return
        path = self.folder / name
        with writing(path, f"harness evaluate --resume {self.folder}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb" if frame.head.get("new") else "ab") as stream:
                stream.write(frame.body)

    def _send(self, kind: str, body: bytes = b"", **head: Any) -> None:
        if self.lost:  # its pipe may be closed, and the number of it somebody else's
            raise NodeError(
                "The node process was lost before.",
                next_step="What was measured is kept: resume the run.",
            )
        try:
            self._channel.send(pack(kind, body, **head))
        except HarnessError as error:
            raise self._loss(str(error)) from error

    def _read(self, seconds: float) -> Frame:
        try:
            return self._reader.read(seconds)
        except FrameError as error:
            raise self._loss(str(error)) from error

    def _loss(self, why: str) -> NodeError:
        self.lost = True
        words = self._channel.last_words()
        return NodeError(
            "The node process was lost.",
            f"Of it: {why.removesuffix('.')}." + (f" Its last words: {words}" if words else ""),
            "What was measured before is kept; the rest goes on with a new one, or resume the run.",
        )


def session(
    run: str,
    *,
    receiver: Any,
    idle_poll: bool,
    service_cpus: int = 0,
    load_workers: int = 1,
    run_dir: str = "",
) -> Session:
    """What a controller of this code asks for."""
    return Session(
        run=run,
        version=__version__,
        code=digest(),
        receiver=receiver,
        idle_poll=idle_poll,
        service_cpus=service_cpus,
        load_workers=load_workers,
        run_dir=run_dir,
    )
