"""Where an experiment's telemetry goes, as far as that is known before a node is asked."""

from __future__ import annotations

from harness.errors import InputError
from harness.plan.experiment import Experiment
from harness.plan.trials import Definitions


def check(experiment: Experiment, definitions: Definitions) -> None:
    """InputError if the experiment's receiver cannot tell its collectors apart."""
    if experiment.stack == "sink":
        return
    for spec, definition in definitions.items():
        if not definition.tells_instance:
            raise InputError(
                f"The telemetry of {spec!r} cannot be found among other things in the full stack.",
                "It does not say from which instance it is.",
                "Let its command take {instance} as service.instance.id, or use --stack sink.",
            )


def plan(experiment: Experiment, stack_up: bool) -> str:
    """Where telemetry would go, as a sentence; `stack_up`: the node has one that runs."""
    if experiment.stack == "sink":
        return "telemetry goes to the small sink, which only notes what arrives"
    which = "the one that is up" if stack_up else "started for the run, then taken down"
    more = f"{experiment.asking_seconds:.0f} s more a trial with collectors"
    return f"telemetry goes to the full stack, {which}: {more}"
