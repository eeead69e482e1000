"""Corrects probabilities for the number of comparisons; `family` calls it over a run's arms."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def holm(ps: Mapping[Key, float]) -> dict[Key, float]:
    """Step-down adjusted probabilities: those below 5 % hold together with 5 % error in all.

    NaN stays NaN and does not count as a comparison. It needs no independence, which matters since
    the arms of a block share a process. Source: Holm 1979, A simple sequentially rejective
    multiple test procedure, Scandinavian Journal of Statistics 6.
    """
    adjusted = dict.fromkeys(ps, math.nan)
    known = sorted((p, i, key) for i, (key, p) in enumerate(ps.items()) if not math.isnan(p))
    greatest = 0.0
    for rank, (p, _, key) in enumerate(known):
        greatest = max(greatest, min(1.0, (len(known) - rank) * p))
        adjusted[key] = greatest
    return adjusted
