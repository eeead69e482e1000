"""An experiment's names, looked up before anything is touched; `cli` and `calibrate` call it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.collectors import Definition
from harness.controller import telemetry
from harness.errors import (
    InputError,
)
from harness.model import Arm
from harness.plan import definitions as resolving
from harness.plan import design, workloads
from harness.plan.experiment import Experiment
from harness.plan.trials import Definitions
from harness.plan.workloads import Workload


@dataclass(frozen=True)
class Resolved:
    """An experiment's names, looked up: its services, and its collectors as they were then."""

    workloads: dict[str, Workload]
    definitions: Definitions


def check(
    experiment: Experiment, own: Workload | None = None, definitions: Definitions | None = None
) -> Resolved:
    """Resolve every name; InputError or NeedError before anything is touched.

    `definitions` are those of a run that is resumed: what they were then.
    """
    for arm in experiment.arms:
        _check_arm(arm)
        if own is not None:
            _check_own(arm, own)
    _check_factors(experiment)
    found = resolving.resolve_all(experiment) if definitions is None else definitions
    telemetry.check(experiment, found)
    services = {
        name: own if own is not None and own.name == name else workloads.load(name)
        for name in experiment.workloads
    }
    for arm in experiment.arms:
        for spec in arm.collectors:
            _check_language(arm, found[spec], services.values())
        _check_senders(arm, found)
    return Resolved(services, found)


def _check_language(arm: Arm, definition: Definition, services: Iterable[Workload]) -> None:
    """What runs within a service is made for one language; of one's own that is not known.

    What is compiled into a service needs its source, and where that lies is not known either: a
    program of one's own may be started in /, which would be copied.
    """
    subject = definition.subject
    wanted = subject.language if subject is not None else ""
    is_built = subject is not None and bool(subject.build)
    for service in services:
        if is_built and not service.language:
            raise InputError(
                f"Arm {arm.name!r}: {definition.name!r} is compiled into a service, and where the "
                f"source of {service.name!r} is and in which language is not known.",
                next_step=f"Measure a service of {wanted or 'ours'}: --workload NAME.",
            )
        if wanted and service.language not in ("", wanted):
            raise InputError(
                f"Arm {arm.name!r}: {definition.name!r} runs in services of {wanted}, and "
                f"{service.name!r} is one of {service.language}.",
                next_step=f"Measure a service of {wanted}: --workload NAME.",
            )


def _check_senders(arm: Arm, found: Definitions) -> None:
    """What is ready once something came must be the only one that sends."""
    specs = (*arm.collectors, *arm.against)
    for spec in specs:
        subject = found[spec].subject
        if len(specs) > 1 and subject is not None and subject.ready_by == "data":
            raise InputError(
                f"Arm {arm.name!r}: {found[spec].name!r} is ready by its first data, and what "
                "another collector sends would be taken for it.",
                next_step="Give it an arm of its own, or say `ready` in its definition.",
            )


def _check_own(arm: Arm, own: Workload) -> None:
    """Two processes of a service of one's own need a port for each."""
    if arm.method != "twin" or own.has_twins:
        return
    ports = "Say {port} in --command and in --url: each process of it then gets a port of its own."
    running = own.running is not None
    raise InputError(
        f"Arm {arm.name!r} needs two processes of the program side by side.",
        f"{own.name!r} runs already, and is not ours to start a second time."
        if running
        else f"{own.name!r} answers at one fixed address, {own.url}.",
        "Give --command, with {port} in it and in --url." if running else ports,
    )


def _check_factors(experiment: Experiment) -> None:
    """In a shared trial each collector runs once: no two of them may have one name."""
    slugs: dict[str, str] = {}
    for spec in design.factors(experiment)[:-1]:
        slug = resolving.resolve(spec).slug
        if slug in slugs:
            raise InputError(
                f"The collectors {slugs[slug]!r} and {spec!r} of factorial arms have one name.",
                next_step='Give one of their arms method = "switch".',
            )
        slugs[slug] = spec


def _check_arm(arm: Arm) -> None:
    """The two sets of an arm may share a collector: a version may be held against itself."""
    for specs in (arm.collectors, arm.against):
        slugs: set[str] = set()
        for spec in specs:
            try:
                slug = resolving.resolve(spec).slug
            except InputError as error:
                what = f"Arm {arm.name!r}: {error.what}"
                raise InputError(what, error.why, error.next_step) from error
            if slug in slugs:
                raise InputError(
                    f"Arm {arm.name!r} names the same collector twice: {spec!r}.",
                    next_step="Give one of them another option, or leave it out.",
                )
            slugs.add(slug)
