"""Telemetry that the receiver refused, got twice or not whole; `caution` and `headline` ask.

It is in no coverage, or was sent for nothing: either way what was measured is not what it costs
where the receiver is well.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.analysis.validity import Judged

GRAVEST = ("refused", "malformed", "broken", "repeated")


@dataclass(frozen=True)
class Trouble:
    """Posts of one sender in the trials of one arm that had an outcome which is not to be."""

    workload: str
    arm: str
    sender: str
    outcome: str
    number: int
    of: int
    said: str

    @property
    def sentence(self) -> str:
        """What it means, with its size."""
        return f"{self.workload}, {self.arm}: {self._told()}"

    def _told(self) -> str:
        said = self.said and f" ({self.said})"
        count = f"{self.number:,} of {self.of:,} posts of {self.sender}"
        if self.outcome == "refused":
            return (
                f"the receiver refused {count}{said}: what they told is in no coverage "
                "unless it was sent again, and what it costs to try again is in the costs."
            )
        if self.outcome == "malformed":
            return (
                f"{count} cannot be read as what they say to be{said}: what they "
                "told is in no coverage."
            )
        if self.outcome == "broken":
            return (
                f"{count} never came whole, or got no answer{said}: what they "
                "told is in no coverage unless it was sent again."
            )
        return (
            f"{count} had come before: it tried again although they were taken. "
            "Each counts once; what the second one costs is in the costs."
        )


def _reasons(said: Counter[str]) -> str:
    """Each, the most frequent first; how often, if there are several."""
    if len(said) == 1:
        return next(iter(said))
    return ", ".join(f"{number:,} times {reason}" for reason, number in said.most_common(3))


def troubles(trials: Sequence[Judged]) -> list[Trouble]:
    """What became of posts other than to be taken, the gravest first."""
    every: Counter[tuple[str, str, str]] = Counter()
    bad: dict[tuple[str, str, str, str], Counter[str]] = defaultdict(Counter)
    for judged in trials:
        trial = judged.record.trial
        for value in judged.record.values:
            if value.metric != "posts":
                continue
            labels, number = value.labels, round(value.value)
            sender = labels.get("sender") or labels.get("instance") or "a sender without a name"
            key = trial.workload, trial.arm, sender
            every[key] += number
            if labels["outcome"] != "taken":
                bad[*key, labels["outcome"]][labels.get("said", "")] += number
    found = [
        Trouble(*key, number=said.total(), of=every[key[:3]], said=_reasons(said))
        for key, said in bad.items()
    ]
    return sorted(found, key=lambda each: (GRAVEST.index(each.outcome), -each.number))


def sentences(trials: Sequence[Judged]) -> Iterator[str]:
    """A sentence for each."""
    return (each.sentence for each in troubles(trials))
