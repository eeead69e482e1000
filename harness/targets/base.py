"""What a target is: where a node runs, and a byte pipe to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from harness.errors import HarnessError, InputError, NodeError
from harness.linux.processes import Completed
from harness.wire import codec
from harness.wire.spec import Found, Spawn
from harness.wire.subject import Option

Tell = Callable[[str], None]


class Channel(Protocol):
    """stdin and stdout of a node process."""

    def send(self, data: bytes) -> None:
        """All of it, or NodeError."""
        ...

    def receive(self, size: int, seconds: float) -> bytes:
        """Up to so many bytes; b"" at the end, TimeoutError when nothing came in time."""
        ...

    def close(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Hang up and wait for the process, and call `meanwhile` every 15 s; safe to call again."""
        ...

    def last_words(self) -> str:
        """What it said on stderr last, for an error."""
        ...


class Target(Protocol):
    """Where the node side runs; checks what it needs before it changes anything."""

    @property
    def name(self) -> str:
        """As it is given: `local`, `ssh:HOST`, `kind`, `existing,context=NAME,node=NODE`."""
        ...

    @property
    def caution(self) -> str:
        """What a reader must know of figures from there, in a sentence; mostly nothing."""
        ...

    def check(self) -> None:
        """InputError or NeedError if nothing can be measured there; changes nothing."""
        ...

    def check_service(self, asked: Spawn | Found) -> None:
        """InputError if a service of this kind cannot be measured there."""
        ...

    def prepare(self, tell: Tell) -> None:
        """Install what a node needs there; nothing, where it is there already."""
        ...

    def connect(self) -> Channel:
        """A new node process."""
        ...

    def ask(self, question: str, *about: Any) -> Any:
        """What `python -m harness.node QUESTION ABOUT` answers there; its error is raised.

        What it is asked `about` goes there as JSON.
        """
        ...

    def serving(
        self, asked: Spawn | Found, name: str, meanwhile: Callable[[], None]
    ) -> AbstractContextManager[Spawn | Found]:
        """What a node is told of the service of a block of this name, for as long as that lasts.

        A machine's node starts or finds it itself. In a cluster it is a pod, which the cluster
        starts; `meanwhile` is called while it is waited for. WorkloadError where it cannot be had.
        """
        ...

    def place(self, daemonset: str, there: bool, meanwhile: Callable[[], None]) -> list[str]:
        """Have a DaemonSet of the cluster run on the measured node, or not run `there`.

        The ids of its containers there, all ready; of those that were there before it went.
        `meanwhile` is called while it is waited for.
        InputError if there is none such, ComponentError if it does not become ready or does not go.
        """
        ...

    def turn(
        self, daemonset: str, option: Option, on: bool, meanwhile: Callable[[], None]
    ) -> tuple[list[str], bool]:
        """Have an option of a DaemonSet of the cluster on or off in its pod on the measured node.

        The ids of that pod's containers, and whether the option was on; `remove` puts it back.
        """
        ...

    def look(
        self, daemonset: str, option: Option, meanwhile: Callable[[], None]
    ) -> tuple[list[str], str]:
        """The ids of the same containers, and what the option prints of what it saw."""
        ...

    def out_of_the_way(self, cpus: Sequence[int]) -> AbstractContextManager[None]:
        """Keep this process off the CPUs that are measured, where they are those of the node."""
        ...

    def remove(self) -> None:
        """Remove what `prepare` installed."""
        ...


class OnMachine:
    """What targets have in common whose node starts and finds services itself."""

    caution = ""

    def check_service(self, asked: Spawn | Found) -> None:
        """InputError if it is a workload of a cluster."""
        if isinstance(asked, Found) and asked.workload:
            raise InputError(
                f"{asked.workload} is a workload of a cluster, and a machine was named.",
                next_step="Give --target kind or --target existing too.",
            )

    def serving(
        self, asked: Spawn | Found, name: str, meanwhile: Callable[[], None]
    ) -> AbstractContextManager[Spawn | Found]:
        """The same: the node starts or finds it."""
        return nullcontext(asked)

    def place(self, daemonset: str, there: bool, meanwhile: Callable[[], None]) -> list[str]:
        """InputError: a machine has none."""
        raise of_cluster(daemonset)

    def turn(
        self, daemonset: str, option: Option, on: bool, meanwhile: Callable[[], None]
    ) -> tuple[list[str], bool]:
        """The same."""
        raise of_cluster(daemonset)

    def look(
        self, daemonset: str, option: Option, meanwhile: Callable[[], None]
    ) -> tuple[list[str], str]:
        """The same."""
        raise of_cluster(daemonset)


def of_cluster(daemonset: str) -> InputError:
    """Why a machine has no such collector."""
    return InputError(
        f"The DaemonSet {daemonset} is one of a cluster, and a machine is measured.",
        next_step="Give --target kind or --target existing.",
    )


def arguments(question: str, about: Sequence[Any]) -> list[str]:
    """The arguments of a node that is asked."""
    return [question, *(json.dumps(codec.dump(each)) for each in about)]


def answer(question: str, done: Completed) -> Any:
    """What a node printed as its one answer; the error that it told, or NodeError."""
    try:
        found = json.loads(done.stdout)
        if "error" in found:
            raise HarnessError.from_dict(found["error"])
        return found["answer"]
    except (ValueError, KeyError, TypeError) as error:
        tail = " ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise NodeError(
            f"The node did not answer the question {question!r}.",
            f"It ended with {tail!r}.",
            "`harness doctor` says what that machine lacks.",
        ) from error
