"""Arms that cannot run where they are to be measured, known before a trial; `evaluate`, `cli`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.collectors import subject
from harness.errors import HarnessError, NeedError
from harness.plan import trials
from harness.plan.experiment import Experiment
from harness.plan.trials import Definitions
from harness.results.run import Run
from harness.targets.base import OnMachine, Target, Tell, of_cluster


def skipped(
    target: Target,
    experiment: Experiment,
    definitions: Definitions,
    lacking: Mapping[str, Any] = {},
) -> dict[str, str] | None:
    """Why an arm cannot run on the target, by its name; None where that takes root to find out.

    Hooks are tried there. Whatever else a collector lacks is learnt when it is started; `lacking`
    is what `obtained` found.
    """
    unmet = target.ask("unmet", trials.needs(definitions))
    if unmet is None:
        return None
    unmet = {**lacking, **unmet, **_of_clusters(target, definitions)}
    found: dict[str, str] = {}
    for arm in experiment.arms:
        for spec in (*arm.collectors, *arm.against):
            if spec in unmet:
                found.setdefault(arm.name, str(HarnessError.from_dict(unmet[spec])))
    return found


def _of_clusters(target: Target, definitions: Definitions) -> dict[str, Any]:
    """What a cluster runs, where a machine is measured."""
    if not isinstance(target, OnMachine):
        return {}
    placed = {spec: each.daemonset for spec, each in definitions.items() if each.daemonset}
    return {spec: of_cluster(name).to_dict() for spec, name in placed.items()}


def left(
    experiment: Experiment, definitions: Definitions, skipped: Mapping[str, str]
) -> Definitions:
    """Those of the arms that are not skipped."""
    arms = [arm for arm in experiment.arms if arm.name not in skipped]
    named = {spec for arm in arms for spec in (*arm.collectors, *arm.against)}
    return {spec: each for spec, each in definitions.items() if spec in named}


def obtained(target: Target, definitions: Definitions, tell: Tell) -> dict[str, Any]:
    """Get what is not there yet of other people's collectors: of registries, release archives.

    Why one could not be had, by how it is named. It may take minutes, so that no node waits.
    """
    wanted = {
        spec: {"subject": found.subject, "lock": subject.lock(found.subject.source)}
        for spec, found in definitions.items()
        if found.subject is not None and found.subject.source.is_fetched
    }
    if not wanted:
        return {}
    tell(f"getting {', '.join(wanted)}, what of them is not here yet")
    lacking: dict[str, Any] = {}
    for spec, each in wanted.items():  # one by one, since a node has to answer in time
        lacking |= target.ask("obtain", {spec: each})
    return lacking


def require_some(experiment: Experiment, skipped: Mapping[str, str]) -> None:
    """NeedError if no arm is left of those that have collectors."""
    wanted = [arm.name for arm in experiment.arms if arm.collectors]
    if wanted and all(name in skipped for name in wanted):
        raise NeedError(
            "No arm of the experiment can run here.",
            " ".join(dict.fromkeys(skipped.values())),
            "`harness doctor` says what can run here.",
        )


def note(run: Run, arm: str, reason: str) -> None:
    """Keep with the run why an arm is skipped; what was kept of it before stays."""
    known = run.about().skipped_arms
    if all(each["arm"] != arm for each in known):
        run.note(skipped_arms=[*known, {"arm": arm, "reason": reason}])
