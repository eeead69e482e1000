"""What the component that keeps a signal is asked, whichever it is; each in `config` answers so.

Asking and reading are apart: what reads takes an answer, parsed JSON or text.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from harness.errors import ComponentError
from harness.stack import client

OWN = "harness-agent"  # service.name of what agents say of themselves
READBACK = "harness-readback"  # service.name of what only proves that data flow
MARK = "harness_readback"  # the metric of the same
INSTANCE, UNPROMOTED = "service_instance_id", "instance"  # labels of Prometheus
COUNTERS = ".+_(total|count)"  # metrics that count, by the names that Prometheus gives them
MOST = 100_000  # traces that one search may find: more than a trial has
QUERY_SECONDS = 120.0  # for a question about all that a ramp sent
TRIES, PAUSE_SECONDS = 3, 0.5
LOOK = "Its log says more."


@dataclass(frozen=True)
class Series:
    """A series of cumulative values: labels, and points of time (unix ns) and value in order."""

    labels: frozenset[tuple[str, str]]
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Event:
    """A span (its time is its end) or a log line; `key` tells it from every other one."""

    key: Hashable
    time_unix_ns: int
    name: str = ""
    labels: frozenset[tuple[str, str]] = frozenset()


class Keeper(Protocol):
    """A component that keeps a signal; ComponentError if it does not answer, or refuses."""

    def has(self, mark: str) -> bool:
        """Whether it finds the record of READBACK with this mark, 32 hex digits, now."""
        ...


class Traces(Keeper, Protocol):
    """Keeps spans."""

    def spans(self, instance: str, since_unix_ns: int = 0) -> Sequence[Event]:
        """All spans of an instance that a search finds now, or those of traces that ended since."""
        ...

    def origin(self, attribute: str, value: str) -> Mapping[str, str] | None:
        """What is said of where a span with this attribute was made; None if none is found now."""
        ...

    def size(self, trace: str) -> int:
        """How many spans of this trace it has."""
        ...


class Metrics(Keeper, Protocol):
    """Keeps samples."""

    def counters(
        self, instance: str, name: str, since_unix_ns: int, by: str = INSTANCE
    ) -> Sequence[Series]:
        """The raw samples since then of what an instance counts under names that match.

        `by` is the label that tells the instance; UNPROMOTED has one that makes no labels of what
        is said of the resource.
        """
        ...

    def heard(self, attribute: str) -> Mapping[str, float]:
        """Seconds since agents told of themselves, by an attribute of what they run on."""
        ...

    def number(self, instance: str, prefix: str, seconds: float) -> float | None:
        """Samples of the last so many seconds, of all names with this prefix; None: no answer."""
        ...


class Logs(Keeper, Protocol):
    """Keeps log lines."""

    def lines(
        self, instance: str, since_unix_ns: int, only: tuple[str, str] | None = None
    ) -> Sequence[Event]:
        """The lines of an instance since then that carry this attribute, the oldest first."""
        ...

    def number(self, instance: str, seconds: float) -> float | None:
        """How many lines of the last so many seconds it has; None: no answer."""
        ...


class Profiles(Keeper, Protocol):
    """Keeps profiles."""

    def samples(self, attribute: str, value: str, since_unix_ns: int) -> Mapping[str, int]:
        """The CPU time (ns) since then of what has this attribute, by function or address."""
        ...


def asked(name: str, url: str, query: Mapping[str, str] | None = None) -> Any:
    """The JSON that `name` answers; a refusal that may pass is tried again."""
    text = told(name, url, query)
    try:
        return json.loads(text)
    except ValueError as error:
        raise ComponentError(
            f"{name} answered what is not JSON.",
            f"{error}.",
            f"Look whether it is {name} that listens there.",
        ) from error


def told(name: str, url: str, query: Mapping[str, str] | None = None) -> bytes:
    """The body of what `name` answers; a refusal that may pass is tried again."""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_SECONDS)
        try:
            return client.get(url, query)
        except urllib.error.HTTPError as error:
            what, why = f"{name} refused a query.", f"It said {client.refusal(error)}"
            if error.code < 500:
                break
        except client.FAILURES as error:
            what, why = f"{name} does not answer.", f"{getattr(error, 'reason', error)}."
    raise ComponentError(what, why, LOOK)


def too_many() -> ComponentError:
    """That a search found as many traces as it may find."""
    return ComponentError(
        f"A search found {MOST:,} traces, which is all that it may find.",
        "How many there are cannot be told.",
        "Let the collector send fewer: http:sample=100.",
    )


def label(attribute: str) -> str:
    """An attribute's name as a label of Prometheus and Loki."""
    return re.sub(r"\W", "_", attribute)


def quoted(text: str) -> str:
    """A string of PromQL, LogQL, TraceQL or LogsQL."""
    return json.dumps(text, ensure_ascii=False)
