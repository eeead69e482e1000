"""With what a gate's verdict must be read: few blocks, and a stored run's differences; `report`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.analysis.gates import Measured

WEAKER = (
    "Increases are against a stored run: measured at another time, perhaps on another machine. "
    "Their intervals hold the noise within both runs, not what else changed between them. "
    "Versions interleaved in one run (--arm old=... --arm new=...) do not have this weakness."
)
HELD = {2: "88 to 94", 3: "93 to 95"}  # % of 95 % intervals by blocks: docs/adr/0019
_PASSING_FACTS = (
    "load_average",
    "steal_seconds",
    "knobs_to_set",
)  # they differ between any two runs
_SAME_RATE = 0.05


def reservations(measured: Measured, stored: Measured | None = None) -> list[str]:
    """What so few blocks leave open, a sentence for each run of which there is something to say."""
    said = []
    for run in (measured, *([stored] if stored else [])):
        if run.blocks == 1:
            said.append(
                f"The run {run.name} has one block: its intervals hold for one process of the "
                "service, not for its processes in general."
            )
        elif held := HELD.get(run.blocks):
            said.append(
                f"The run {run.name} has {run.blocks} blocks: where processes of the service "
                f"differ about as much as a block's error, its 95 % intervals hold the truth in "
                f"{held} % of runs, so that verdicts are wrong more often than stated."
            )
    return said


def differences(measured: Measured, stored: Measured) -> list[str]:
    """What is known to differ between two runs, a phrase each."""
    found = [
        f"{name}: {old} then, {new} now"
        for name, old, new in [
            ("harness", stored.version, measured.version),
            *_facts(stored.facts, measured.facts),
            *_settings(stored.settings, measured.settings),
        ]
        if old != new
    ]
    for workload in measured.workloads:
        old_rate, new_rate = stored.rates.get(workload, 0.0), measured.rates.get(workload, 0.0)
        if abs(new_rate - old_rate) > _SAME_RATE * old_rate:
            found.append(f"rate of {workload}: {old_rate:.0f} then, {new_rate:.0f} now, a second")
    return found


def _settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    before, after = (dict(each) for each in (old, new))
    was, now = before.pop("arms", None), after.pop("arms", None)
    yield from _facts(before, after)
    if was is None or now is None:
        yield "arms", "known" if was else "unknown", "known" if now else "unknown"
        return
    for name in dict.fromkeys([*was, *now]):
        yield f"arm {name}", was.get(name, "none"), now.get(name, "none")


def _facts(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    names = [name for name in dict.fromkeys([*old, *new]) if name not in _PASSING_FACTS]
    for name in names:
        before, after = old.get(name, "unknown"), new.get(name, "unknown")
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _facts(before, after)
        elif isinstance(before, Mapping) or isinstance(after, Mapping):  # not recorded by one
            was, now = ("known" if isinstance(e, Mapping) else e for e in (before, after))
            yield name, was, now
        else:
            yield name, before, after
