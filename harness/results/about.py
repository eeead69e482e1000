"""run.json as a record; whoever reads a run reads it as this, see docs/run-directory.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, TypedDict, get_args, get_origin, get_type_hints

from harness.errors import StoreError
from harness.results.folder import unreadable

FILE = "run.json"
_BEGIN = "Take it from a backup, or begin a new run."
SCHEMA = 1
"""What reads run.json refuses another number. Keys are added without a new one.

1: the first. idle_poll, instrument, warmups and ended_early came later, then components and
spent_seconds, then target, collectors, facts_hash and broken_blocks, then refused and failures,
then arrivals and load_node, then block_seconds and pilot, then given_up.
"""


class Capacity(TypedDict, total=False):
    """What a service can take and what it was driven at (requests/s); see docs/method.md.

    `refused` is what it did not answer well beside its capacity (requests/s), `failures` how many
    of each kind that were; both are there where some were. `arrivals` is how they were spaced.
    """

    capacity: float
    driver_cpu_share: float
    rate: float
    refused: float
    failures: Mapping[str, int]
    arrivals: str


class WarmUp(TypedDict, total=False):
    """How long a process was warmed up; `arm` is that of the trial for which a twin was started."""

    workload: str
    block: int
    seconds: float
    steady: bool
    arm: str


class EndedEarly(TypedDict):
    """After how many of its blocks a workload was measured enough, and why."""

    blocks: int
    reason: str


class BlockSeconds(TypedDict):
    """How long a block (from 0) took, start and warm-up of the service included."""

    workload: str
    block: int
    seconds: float


class BrokenBlock(TypedDict):
    """A block (from 0) that an error ended; on resume its other trials are due again."""

    workload: str
    block: int
    reason: str


class NotGoneOnWith(TypedDict):
    """What trials in a row were spoilt by: those of an arm, or of all of a service (no `arm`)."""

    workload: str
    arm: str
    reason: str


class SkippedArm(TypedDict, total=False):
    """An arm that cannot run on the machine, and why."""

    arm: str
    reason: str


class PublishedClaim(TypedDict):
    """A published figure of a collector."""

    collector: str
    text: str
    source: str


@dataclass(frozen=True)
class About:
    """What is known of a run as a whole; times are ISO 8601, None is what is not known.

    `experiment` has the keys of `plan.experiment.Experiment`, `own_workload` those of a workload
    that does not ship, `instrument` what was taken from the machine's certificate. `pilot` is what
    a pilot decided and from which figures (docs/run-directory.md), empty before. `collectors`
    holds each collector as it was resolved, by its name in the experiment. `load_node` is empty
    unless the load came from another machine: its `target`, its `facts`, the `url` that it asked.
    `warnings` are only those of the run as a whole: why a trial was not measured is in its record.
    """

    experiment: Mapping[str, Any]
    schema: int = SCHEMA
    version: str | None = None
    started: str | None = None
    command: tuple[str, ...] = ()
    target: str = "local"
    load_node: Mapping[str, Any] = field(default_factory=dict)
    own_workload: Mapping[str, Any] | None = None
    primary_routes: Mapping[str, str] = field(default_factory=dict)
    collectors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    calibration: Mapping[str, Capacity] = field(default_factory=dict)
    skipped_arms: tuple[SkippedArm, ...] = ()
    warnings: tuple[str, ...] = ()
    warmups: tuple[WarmUp, ...] = ()
    ended_early: Mapping[str, EndedEarly] = field(default_factory=dict)
    block_seconds: tuple[BlockSeconds, ...] = ()
    pilot: Mapping[str, Any] = field(default_factory=dict)
    broken_blocks: tuple[BrokenBlock, ...] = ()
    given_up: tuple[NotGoneOnWith, ...] = ()
    instrument: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[PublishedClaim, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    facts_hash: str = ""
    placement: Mapping[str, Any] = field(default_factory=dict)
    idle_poll: bool | None = None
    components: Mapping[str, str] | None = None
    spent_seconds: float = 0.0
    complete: bool = False
    stopped_by: str = ""
    ended: str | None = None

    @property
    def entry_ns(self) -> Mapping[str, Mapping[str, Any]]:
        """Calibrated cost of entering a program by type of hook; empty without a certificate."""
        found = self.instrument.get("entry_ns") or {}
        return {hook: cost for hook, cost in found.items() if isinstance(cost, Mapping)}


def read(run: Path) -> dict[str, Any]:
    """All keys of a run's run.json, those of a later version among them; StoreError without one."""
    path = run / FILE
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(
            f"{run} is not a run: it has no {FILE}.",
            next_step="`harness evaluate` makes one below reports/.",
        ) from error
    except PermissionError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise StoreError(f"{path} is damaged.", str(error), _BEGIN) from error
    if not isinstance(found, dict):
        raise StoreError(f"{path} is damaged.", "It is no JSON object.", _BEGIN)
    return found


def text(known: Mapping[str, Any]) -> str:
    """What run.json holds for these keys."""
    return json.dumps({"schema": SCHEMA, **known}, indent=1)


def of(found: Mapping[str, Any], run: Path) -> About:
    """The record of what was read; StoreError where it lacks or holds what no run does."""
    known = {f.name: found[f.name] for f in fields(About) if f.name in found}
    try:
        check(known)
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in known.items()
        }
        return About(**values)
    except TypeError as error:
        raise StoreError(f"{run / FILE} is damaged.", str(error), _BEGIN) from error


def check(values: Mapping[str, Any]) -> None:
    """TypeError if run.json has no key of one of these names, or holds another kind of value."""
    kinds = _kinds()
    for name, value in values.items():
        if name not in kinds:
            raise TypeError(f"run.json has no key {name!r}")
        if not isinstance(value, kinds[name]):
            raise TypeError(f"{name} cannot be {str(value)[:80]!r}")


@cache
def _kinds() -> Mapping[str, tuple[type, ...]]:
    """The types that a value of each field may have, lists being what JSON makes of tuples."""
    also: Mapping[type, tuple[type, ...]] = {tuple: (tuple, list), float: (float, int)}
    found = {}
    for name, hint in get_type_hints(About).items():
        members = get_args(hint) if NoneType in get_args(hint) else (hint,)
        plain = [get_origin(member) or member for member in members]
        found[name] = tuple(kind for each in plain for kind in also.get(each, (each,)))
    return found
