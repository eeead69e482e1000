"""Whether a run may go on here: what was measured before must have been measured alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.errors import InputError
from harness.results.about import About
from harness.results.certificates import MACHINE

_ROLES = ("workload", "load", "collector", "orchestrator", "idle")
_NAMES = {"cpu_model": "processor", "cpus_online": "number of CPUs", "kernel": "kernel"}


def check(
    about: About,
    facts: Mapping[str, Any],
    placement: Mapping[str, Any],
    version: str,
    idle_poll: bool,
    *,
    anyway: bool = False,
) -> str:
    """InputError if a run was begun on another machine, kernel or version, or with other CPUs.

    `anyway` lets it go on; the sentence that is returned belongs into the run's warnings then, and
    is empty where nothing differs. What a run does not tell, being of an earlier version or not
    begun, differs from nothing.
    """
    found = list(_differences(about, facts, placement, version, idle_poll))
    if not found:
        return ""
    told = "; ".join(found)
    if anyway:
        return f"The run went on though not all was as before: {told}."
    raise InputError(
        f"The run cannot go on here: {told}.",
        "Its report would be of both, as if they were one.",
        "Go on where it was begun, begin another run, or add --anyway and be warned in the report.",
    )


def _differences(
    about: About,
    facts: Mapping[str, Any],
    placement: Mapping[str, Any],
    version: str,
    idle_poll: bool,
) -> Iterator[str]:
    if not about.facts:
        return
    for key in MACHINE:
        if key in about.facts and about.facts[key] != facts.get(key):
            yield f"the {_NAMES[key]} is {facts.get(key)}, it was {about.facts[key]}"
    if about.version not in (None, version):
        yield f"the version is {version}, it was {about.version}"
    for role in _ROLES:
        before, now = (_cpus(each, role) for each in (about.placement, placement))
        if before is not None and before != now:
            yield f"the CPUs of role {role} are {_told(now)}, they were {_told(before)}"
    if about.idle_poll not in (None, idle_poll):
        yield f"idle CPUs {_idle(idle_poll)}, they {_idle(not idle_poll)} before"


def _cpus(placement: Mapping[str, Any], role: str) -> list[int] | None:
    return list(placement[role]) if role in placement else None


def _told(cpus: list[int] | None) -> str:
    return ", ".join(map(str, cpus or ())) or "none"


def _idle(polled: bool) -> str:
    return "poll" if polled else "halt"
