"""When the blocks of a workload may end early; `stopping` asks after each block.

The rule: stop at the first block b >= min_blocks after which the 95 % interval of
workload_cpu_percent of every arm is at most `precision_percent` to each side. It looks at the
intervals' widths only, never at where they lie, so an effect is not found by looking often: the
fixed-width rule of Chow and Robbins 1965, Annals of Mathematical Statistics 36. Its coverage tends
to that of a fixed plan as the width shrinks, since the variance at the end is then known well. In
simulation (tests/unit/test_statistics.py: up to 16 blocks, precision reached after 8 on average)
it is 95 to 97 % if the blocks' own effects do not differ or differ by half of one block's standard
error, 92 to 93 % if they differ by nearly all of it, whether min_blocks is two or four.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from harness.analysis import summary
from harness.model import Comparison
from harness.results.run import Run

METRIC = "workload_cpu_percent"


def precision(run: Run, workload: str) -> float:
    """Half the width of the widest arm's interval so far, in percent; NaN if one has none.

    An arm that was skipped, because it cannot run here, is not waited for; one that failed is.
    """
    skipped = {each["arm"] for each in run.about().skipped_arms}
    arms = [arm.name for arm in run.experiment().arms if arm.name not in skipped]
    return widest(summary.cpu_only(run), workload, arms)


def widest(rows: Sequence[Comparison], workload: str, arms: Iterable[str] = ()) -> float:
    """Half the width of the widest interval of workload_cpu_percent, in percent.

    NaN without such a row, if one of `arms` has none, or if one has no interval yet.
    """
    halves = {
        row.arm: (row.high - row.low) / 2
        for row in rows
        if (row.workload, row.metric) == (workload, METRIC)
    }
    if not halves or not halves.keys() >= set(arms):
        return math.nan
    return math.nan if any(map(math.isnan, halves.values())) else max(halves.values())
