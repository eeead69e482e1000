"""When the blocks of a service end before the plan does; `evaluate` asks at each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from harness.analysis import sequential
from harness.results.run import Run


class StoppingRule:
    """Decides before each block whether the workload's blocks are over; notes it in run.json.

    Blocks end when every arm's interval is narrow enough (which looks at widths, never at where
    the intervals lie) or the time budget is used up, of which each workload has an equal share
    unless a pilot gives it. A workload's first block begins as long as there is any time left.
    """

    def __init__(self, run: Run, clock: Callable[[], float] = time.monotonic) -> None:
        self._run, self._experiment, self._clock = run, run.experiment(), clock
        self._begun = clock() - run.about().spent_seconds
        self._since = clock()

    def reached(self, workload: str, block: int) -> bool:
        """Whether this block is not to begin; if it is, its time runs from now."""
        self._since = self._clock()
        ended = self._run.about().ended_early
        if workload in ended:
            return block >= int(ended[workload]["blocks"])
        budget = self._experiment.budget_seconds
        if budget is None or self.spent() < self._share(workload, block) * budget:
            return False
        self._note(workload, block, f"The time budget of {budget / 60:.3g} minutes was used up.")
        return True

    def after(self, workload: str, block: int) -> None:
        """A block has ended: note the time, and whether it was the last that was needed.

        On resume it may be an early one, of which a trial had failed: what was decided stays.
        """
        took = {
            "workload": workload, "block": block, "seconds": round(self._clock() - self._since, 2),
        }  # fmt: skip
        about = self._run.about()
        self._run.note(
            spent_seconds=round(self.spent(), 1), block_seconds=[*about.block_seconds, took]
        )
        if workload in about.ended_early:
            return
        e, done = self._run.experiment(), self._done(workload)
        planned = e.blocks_of(workload)
        if e.precision_percent is None or not e.min_blocks <= done < planned:
            return
        if sequential.precision(self._run, workload) <= e.precision_percent:
            self._note(
                workload, done,
                "Every arm's 95 % interval of the workload's CPU was within "
                f"±{e.precision_percent:g} % after {done} of {planned} blocks.",
            )  # fmt: skip

    def _done(self, workload: str) -> int:
        """How many of its blocks have been run."""
        done = (r for r in self._run.records() if r.status != "failed")
        return len({r.trial.block for r in done if r.trial.workload == workload})

    def spent(self) -> float:
        """Seconds that the run has taken so far, interruptions left out."""
        return self._clock() - self._begun

    def _share(self, workload: str, block: int) -> float:
        workloads: Sequence[str] = self._experiment.workloads
        if self._experiment.pilot_blocks:
            return 1.0
        return (workloads.index(workload) + 1) / len(workloads) if block else 1.0

    def _note(self, workload: str, blocks: int, reason: str) -> None:
        ended = self._run.about().ended_early
        self._run.note(ended_early={**ended, workload: {"blocks": blocks, "reason": reason}})
