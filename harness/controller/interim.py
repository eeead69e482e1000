"""What is known while a run lasts, told after its trials; `evaluate` makes one for its blocks.

Analysis needs a CPU and the memory that services share with it. While windows are being measured it
would disturb them, so it is done here and nowhere else: after a trial is stored and before the node
is asked for the next one, which begins with a time to settle. It takes no more than SHARE of the
measuring's time: one look takes 0.1 s of CPU after a block of `quick`, 0.25 s after its four, and
1.9 s after the twelve of `standard`, which have 104 s of windows each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.analysis import summary
from harness.errors import StoreError
from harness.model import Comparison, Trial
from harness.results.run import Run

SHARE = 0.05  # of the time since the last look that a look may take
LONGEST = 20.0  # s; a node whose controller is silent for a minute takes it for dead


@dataclass(frozen=True)
class SoFar:
    """What is known of one service: its rows (`summary.so_far`), from how many of the blocks."""

    workload: str
    blocks: int
    of: int
    rows: Sequence[Comparison]


Show = Callable[[SoFar], None]
"""Shows what is known so far of the service that is being measured."""


class Interim:
    """Looks at what is stored, between trials, if that is due and somebody wants to see it."""

    def __init__(
        self, run: Run, show: Show | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._run, self._show, self._clock = run, show, clock
        self._looked, self._took = clock(), 0.0

    def look(self, trial: Trial) -> None:
        """This trial is stored: tell what is known of its service now, if it is time for that."""
        if self._show is None or not self._is_due():
            return
        began = self._clock()
        try:
            found = _so_far(self._run, trial.workload)
        except StoreError:  # a damaged trial is for the report to tell; what is measured goes on
            return
        self._looked = self._clock()
        self._took = self._looked - began
        if found.rows:
            self._show(found)

    def _is_due(self) -> bool:
        since = self._clock() - self._looked
        return self._took <= LONGEST and self._took <= SHARE * since


def _so_far(run: Run, workload: str) -> SoFar:
    done = {
        record.trial.block
        for record in run.records()
        if record.trial.workload == workload and record.status == "ok"
    }
    return SoFar(
        workload, len(done), run.experiment().blocks_of(workload), summary.so_far(run, workload)
    )
