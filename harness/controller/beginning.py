"""A run made, or gone on with, once a node has said what it is; `cli` and `calibrate` call it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import __version__
from harness.collectors import REGISTRY
from harness.controller.resolved import Resolved
from harness.model import Claim
from harness.plan import definitions as resolving
from harness.plan.experiment import Experiment
from harness.results import resume
from harness.results.run import Run
from harness.wire.spec import Hello

Begin = Callable[[Hello], Run]
"""Makes or opens the run, once a node has said what it is; raises if that is not to be measured."""


def beginning(
    path: Path,
    experiment: Experiment,
    resolved: Resolved,
    run: Run | None = None,
    *,
    anyway: bool = False,
    command: list[str],
    instrument: dict[str, Any] | None = None,
    target: str = "local",
) -> Begin:
    """Makes the run, or goes on with one: on the machine and with the version of its first part.

    `anyway` goes on with it elsewhere, and says so in the run.
    """

    def begin(hello: Hello) -> Run:
        if run is None:
            return create(path, experiment, command, resolved, instrument, target)
        if told := resume.check(
            run.about(), hello.facts, vars(hello.placement), __version__, hello.idle_poll,
            anyway=anyway,
        ):  # fmt: skip
            run.warn(told)
        return run

    return begin


def create(
    path: Path,
    experiment: Experiment,
    command: list[str],
    resolved: Resolved,
    instrument: dict[str, Any] | None = None,
    target: str = "local",
) -> Run:
    """A new run directory that knows how it was asked for and which claims to print.

    `instrument` is the machine's certificate, or what of it the analysis is to use.
    """
    services = resolved.workloads
    subjects = {spec: d for spec, d in resolved.definitions.items() if d.subject is not None}
    return Run.create(
        path,
        experiment,
        version=__version__,
        started=now(),
        command=command,
        target=target,
        own_workload=next((w.to_dict() for w in services.values() if w.is_own), None),
        primary_routes={name: workload.primary for name, workload in services.items()},
        collectors={spec: resolving.to_dict(d) for spec, d in resolved.definitions.items()},
        calibration={},
        skipped_arms=[],
        warnings=[],
        warmups=[],
        ended_early={},
        instrument=instrument or {},
        claims=[
            {"collector": spec, "text": claim.text, "source": _told(claim)}
            for spec, d in {**REGISTRY, **subjects}.items()
            for claim in d.claims
        ],
    )


def _told(claim: Claim) -> str:
    """Where it stands, and of when it is."""
    return f"{claim.source}, {claim.date}" if claim.date else claim.source


def now() -> str:
    """The time, as run.json has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
