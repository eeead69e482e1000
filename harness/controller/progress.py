"""How far a run is, in seconds of work done; `evaluate` and `block` tell it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.model import Trial
from harness.plan import experiment as experiments
from harness.plan.experiment import Experiment

Tell = Callable[[float, float, str], None]
"""Called with seconds of work done, seconds of work in all, and what is happening now."""


AGAIN = "is measured again"  # in a label that says why a trial was spoilt, which is to stay


class Progress:
    """Turns finished trials into seconds of work done, for the progress bar."""

    def __init__(self, experiment: Experiment, tell: Tell) -> None:
        self._tell, self._total = tell, experiment.expected_seconds()
        plan = experiments.plan(experiment)
        asking = experiment.asking_seconds
        weights = {
            "switched": experiment.switched_seconds + experiment.steady_seconds + 2.5 + asking,
            "metered": experiment.metered_seconds + experiment.rates_seconds + 2.0,
            "saturated": experiment.saturated_seconds + 2.0,
        }
        whole = sum(weights[t.kind] for t in plan)
        per = {kind: w / whole * self._total for kind, w in weights.items()}
        self._left = {trial.index: per[trial.kind] for trial in plan}
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
        self._tell(self._total - sum(self._left.values()), self._total, label)

    def finished(self, trial: Trial) -> None:
        """A trial is done; a repeated one is not counted again."""
        self._left.pop(trial.index, None)
        self.tell(self._label)
