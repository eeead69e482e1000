"""What a target is: where a node runs, and a byte pipe to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from harness.errors import HarnessError, NodeError
from harness.linux.processes import Completed
from harness.wire import codec

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
        """As it is given: `local`, `ssh:HOST`."""
        ...

    def check(self) -> None:
        """InputError or NeedError if nothing can be measured there; changes nothing."""
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

    def out_of_the_way(self, cpus: Sequence[int]) -> AbstractContextManager[None]:
        """Keep this process off the CPUs that are measured, where they are those of the node."""
        ...

    def remove(self) -> None:
        """Remove what `prepare` installed."""
        ...


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
