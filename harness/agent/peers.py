"""Which peers are told one by one, and which together as others; for `flows`.

A public server has more clients than anybody reads a series of. So many (`most`) of each container
are told by themselves, the rest together; who comes first has a place, and who moved most bytes
where places are fewer than peers. A place becomes free when nothing has happened with a peer for
`age_seconds` and no connection is open. What is counted once is told once: at each reading the sum
of all series is all that was ever counted, and that of the others only grows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import sub

from harness.agent.container import Container
from harness.agent.flow_series import (
    COUNTED,
    IO,
    NOTHING,
    RTT,
    Figures,
    Series,
    is_others,
    others,
    plus,
    without,
)


@dataclass
class _Known:
    figures: Figures  # as they were read last
    changed: float  # when they were last other than before
    rests: bool = False  # nothing changed at the last reading, and nothing is open
    others: Figures | None = None  # what of it is told with the others, where the rest is not


class Peers:
    """Follows series from reading to reading."""

    def __init__(self, most: int, age_seconds: float) -> None:
        self._most, self._age_seconds = most, age_seconds
        self._known: dict[Series, _Known] = {}
        self._gone: dict[Series, list[int]] = {}  # of peers that are followed no more

    def tell(self, read: Mapping[Series, Figures], now: float) -> dict[Series, list[int]]:
        """What is to be told of what was `read`: round-trip times since the last reading."""
        for series in read:
            if series not in self._known:
                self._known[series] = _Known(NOTHING, now)
        self._give_places(read)
        told = {series: list(figures) for series, figures in self._gone.items()}
        for series, figures in read.items():
            known = self._known[series]
            fresh = list(figures)
            fresh[RTT] = map(sub, figures[RTT], known.figures[RTT])
            if known.others is None:
                plus(told, others(series), fresh)
            else:
                plus(told, series, list(map(sub, fresh, known.others)))
                if any(known.others):
                    plus(told, others(series), known.others)
            _follow(known, figures, now)
        return told

    def idle(self, now: float) -> list[Series]:
        """Those that need not be kept: told apart for long without a change, or not told apart."""
        return [
            series
            for series, known in self._known.items()
            if known.rests
            and not is_others(series)
            and (known.others is None or now - known.changed >= self._age_seconds)
        ]

    def fold(self, series: Series, figures: Figures) -> None:
        """Follow it no more: all of it, as it was when it was removed, is the others' from now."""
        del self._known[series]
        plus(self._gone, others(series), without(figures))

    def forget(self, lasts: Callable[[Container | None], bool]) -> None:
        """Nothing is told any more of containers that do not last."""
        ended = {each for each, _ in (*self._known, *self._gone)}
        ended = {each for each in ended if not lasts(each)}
        for series in [series for series in self._known if series[0] in ended]:
            del self._known[series]
        for series in [series for series in self._gone if series[0] in ended]:
            del self._gone[series]

    def _give_places(self, read: Mapping[Series, Figures]) -> None:
        """What was told of a peer with the others so far, stays there."""
        taken = Counter(s[0] for s, known in self._known.items() if known.others is not None)
        waiting = [s for s in read if self._known[s].others is None and not is_others(s)]
        waiting.sort(key=lambda s: sum(self._known[s].figures[IO]) - sum(read[s][IO]))
        for series in waiting:
            if taken[series[0]] < self._most:
                taken[series[0]] += 1
                known = self._known[series]
                known.others = without(known.figures)


def _follow(known: _Known, figures: Figures, now: float) -> None:
    same = list(figures[:COUNTED]) == list(known.figures[:COUNTED])
    known.rests = same and not any(figures[COUNTED:])
    if not known.rests:
        known.changed = now
    known.figures = figures
