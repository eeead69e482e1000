"""How far a run is, in seconds of work done; `evaluate` and `block` tell it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.model import Trial
from harness.plan import experiment as experiments
from harness.plan import parts
from harness.plan.experiment import Experiment

Tell = Callable[[float, float, str], None]
"""Called with seconds of work done, seconds of work in all, and what is happening now."""


AGAIN = "is measured again"  # in a label that says why a trial was spoilt
GIVEN_UP = "is given up"  # in one that says what is not gone on with
SKIPPED = "is skipped: "  # in one that says why an arm is
STAYING = (AGAIN, GIVEN_UP, SKIPPED)  # labels with one of these are to stay where they are read


class Progress:
    """Turns finished trials into seconds of work done, for the progress bar."""

    def __init__(self, experiment: Experiment, tell: Tell) -> None:
        self._tell, self._total = tell, experiment.expected_seconds()
        plan = experiments.plan(experiment)
        weights = {trial.index: _seconds(experiment, trial) for trial in plan}
        whole = sum(weights.values())
        if experiment.awaits_pilot:  # trials that are not known yet take the rest
            whole = max(whole, self._total)
        self._left = {index: w / whole * self._total for index, w in weights.items()}
        self._unknown = self._total - sum(self._left.values())
        self._label = ""

    def expect(self, trials: Sequence[Trial]) -> None:
        """Only these are left."""
        self._left = {trial.index: self._left[trial.index] for trial in trials}

    def skip(self, trials: Sequence[Trial]) -> None:
        """These will not be run."""
        for trial in trials:
            self.finished(trial)

    def tell(self, label: str) -> None:
        """Say what is happening."""
        self._label = label
        done = self._total - self._unknown - sum(self._left.values())
        self._tell(done, self._total, label)

    def finished(self, trial: Trial) -> None:
        """A trial is done; a repeated one is not counted again."""
        self._left.pop(trial.index, None)
        self.tell(self._label)


def _seconds(e: Experiment, trial: Trial) -> float:
    """About how long a trial takes."""
    if trial.kind == "metered":
        moving = parts.moving_seconds(e.arm(trial.arm))
        return e.metered_seconds + e.rest_seconds + e.rates_seconds + moving + 2.0
    if trial.kind == "saturated":
        return e.saturated_seconds + 2.0
    steady = e.steady_seconds + e.asking_seconds if e.is_metered(trial.block) else 0.0
    turning = parts.turning_seconds(e.arm(trial.arm), e.settle_seconds)
    return e.seconds_of(trial) + turning + steady + 2.5
