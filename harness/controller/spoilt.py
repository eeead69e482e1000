"""What is not gone on with, because trials in a row are spoilt by the same; for `block`.

What may pass by itself never counts: docs/adr/0027-spoilt-by-the-same.md says what that is.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.analysis import blame, validity
from harness.analysis.factorial import LEFT_OUT
from harness.analysis.harms import DIED
from harness.analysis.validity import Judged
from harness.controller.due import CULPRIT
from harness.controller.progress import GIVEN_UP
from harness.errors import CollectorError
from harness.model import FACTORIAL, Trial, WindowRow
from harness.plan.experiment import Experiment
from harness.results.run import TrialRecord

ENOUGH = 2  # trials in a row
CLEARLY = 2.0  # times what a rule allows: what is nearer to it may be within it the next time
RESUME = ", then resume the run: the rest is measured then."
ELSEWHERE = ", in a run of its own."
_STATUS = re.compile(r"\d{3}\b")  # what failures of requests begin with that were answered

Scope = tuple[str, str, str]  # a service; which of the three; an arm's or a collector's name
SERVICE, ARM, COLLECTOR = "service", "arm", "collector"


@dataclass(frozen=True)
class Cause:
    """What spoilt a trial and does not pass by itself; of an equal `key` it is the same."""

    key: str
    told: str
    mend: str
    then: str = RESUME


@dataclass(frozen=True)
class GivenUp:
    """What is not gone on with, and why: all of a service, an arm of it, or a collector.

    Trials that arms share go on without such a collector.
    """

    workload: str
    reason: str
    arm: str = ""
    collector: str = ""


@dataclass
class Spoilt:
    """Is told of every trial of one evaluation as it ends, and knows which are not to be begun.

    `tell` is called with what is given up. `skipped` arms cannot run there, `left_out` trials were
    due and not begun.
    """

    tell: Callable[[GivenUp], None] = lambda _: None
    skipped: Mapping[str, str] = field(default_factory=dict)
    left_out: list[Trial] = field(default_factory=list)
    _seen: dict[Scope, list[tuple[str, Trial]]] = field(default_factory=lambda: defaultdict(list))
    _given_up: dict[Scope, str] = field(default_factory=dict)

    def leaves_out(self, trial: Trial) -> bool:
        """Whether this trial is not to be begun; notes it then."""
        if given_up := bool(self.reason(trial)):
            self.left_out.append(trial)
        return given_up

    def reason(self, trial: Trial) -> str:
        """Why it is not to be begun; empty if it is."""
        scopes = ((trial.workload, SERVICE, ""), (trial.workload, ARM, trial.arm))
        return next((self._given_up[each] for each in scopes if each in self._given_up), "")

    def covers(self, trials: Sequence[Trial]) -> bool:
        """Whether none of them is to be begun, and not only because their arms cannot run."""
        left = [trial for trial in trials if trial.arm not in self.skipped]
        return bool(left) and all(map(self.reason, left))

    def without(self, trial: Trial) -> dict[str, str]:
        """The collectors without which a trial that arms share is begun, and why."""
        return {
            name: told
            for (workload, what, name), told in self._given_up.items()
            if (workload, what) == (trial.workload, COLLECTOR) and trial.arm == FACTORIAL
        }

    def note(
        self,
        experiment: Experiment,
        record: TrialRecord,
        rows: Sequence[WindowRow],
        error: Mapping[str, str],
        *,
        is_ours: bool = True,
    ) -> list[GivenUp]:
        """A trial has ended; what is given up for it. `is_ours`: nobody else starts the service.

        What spoils one in which the service is full says nothing of those at a rate.
        """
        if record.trial.kind == "saturated":
            return []
        judged = validity.judge_of(experiment, record, rows)
        if judged.usable:
            self._clear(record)
            return []
        found = cause(judged, error, is_ours=is_ours)
        given_up = list(self._count(experiment, record, found)) if found else []
        for each in given_up:
            self.tell(each)
        return given_up

    def _clear(self, record: TrialRecord) -> None:
        """What was usable was not spoilt: not the service, the arm, nor the collectors on in it."""
        trial, away = record.trial, record.extra.get(LEFT_OUT, {})
        for (workload, what, name), seen in self._seen.items():
            was_there = {
                SERVICE: True,
                ARM: name == trial.arm,
                COLLECTOR: trial.arm == FACTORIAL and name not in away,
            }
            if workload == trial.workload and was_there[what]:
                seen[:] = [each for each in seen if each[1].kind != trial.kind]

    def _count(
        self, experiment: Experiment, record: TrialRecord, found: Cause
    ) -> Iterator[GivenUp]:
        trial = record.trial
        for name in (names := _to_blame(record)):
            one = (trial.workload, COLLECTOR, name)
            if len(seen := self._same(one, trial, found)) >= ENOUGH and one not in self._given_up:
                yield self._go_on_without(experiment, one, len(seen), found)
        if names:
            return
        service, arm = (trial.workload, SERVICE, ""), (trial.workload, ARM, trial.arm)
        every, mine = (self._same(scope, trial, found) for scope in (service, arm))
        if len(every) >= ENOUGH and any(_is_bare(experiment, each) for each in every):
            yield self._give_up(experiment, service, len(every), found)
        elif len(mine) >= ENOUGH:
            yield self._give_up(experiment, arm, len(mine), found)

    def _same(self, scope: Scope, trial: Trial, found: Cause) -> list[Trial]:
        """The trials in a row that the same has spoilt, with this one."""
        self._seen[scope].append((found.key, trial))
        return [each for key, each in self._seen[scope] if key == found.key]

    def _go_on_without(
        self, experiment: Experiment, scope: Scope, count: int, found: Cause
    ) -> GivenUp:
        workload, _, name = scope
        self._given_up[scope] = f"{_times(count)} {found.told}"
        gone = [each for each in self._given_up if each[:2] == (workload, COLLECTOR)]
        if len(gone) == len(experiment.arm(FACTORIAL).collectors):
            return self._give_up(experiment, (workload, ARM, FACTORIAL), count, found)
        told = f"{workload}: {name} {GIVEN_UP}, trials that arms share go on without it."
        told = f"{told} {_times(count)} {found.told} {found.mend}{ELSEWHERE}"
        return GivenUp(workload, told, FACTORIAL, name)

    def _give_up(self, experiment: Experiment, scope: Scope, count: int, found: Cause) -> GivenUp:
        workload, what, arm = scope
        why = f"{_times(count)} {found.told} {found.mend}{found.then}"
        self._given_up[scope] = why
        if what == SERVICE:
            return GivenUp(workload, f"{workload} {GIVEN_UP}. {why}")
        name = "the trial that arms share" if arm == FACTORIAL else f"arm {arm}"
        if self._has_arms(experiment, workload):
            return GivenUp(workload, f"{workload}: {name} {GIVEN_UP}. {why}", arm)
        self._given_up[workload, SERVICE, ""] = why
        alone = f"{workload}: {name} {GIVEN_UP}, and nothing is left to compare."
        return GivenUp(workload, f"{alone} {why}")

    def _has_arms(self, experiment: Experiment, workload: str) -> bool:
        """Whether an arm with collectors is left."""
        return any(
            arm.collectors
            and arm.name not in self.skipped
            and (workload, ARM, arm.name) not in self._given_up
            for arm in experiment.trial_arms
        )


def cause(judged: Judged, error: Mapping[str, str], *, is_ours: bool = True) -> Cause | None:
    """What spoilt a trial, if that does not pass by itself; `error` is the one that ended it.

    A service that others start may end because they did something.
    """
    record = judged.record
    if died := str(record.extra.get(DIED, "")):
        how = f"died: {died.partition('. ')[0]}"
        return Cause(how, died, "Mend the service") if is_ours else None
    if record.status == "failed":
        lasts = error.get("class") == CollectorError.__name__ and not _is_slow(error)
        return Cause(error["what"], record.reason, "Mend the collector") if lasts else None
    if judged.status != "invalid" or judged.passing:
        return None
    return _of_load(judged)


def _is_slow(error: Mapping[str, str]) -> bool:
    """Whether an agent lives and says nothing: one for which a machine has no time does so too."""
    what, why = error["what"], error["why"]
    return "does not answer" in what or ("did not start" in what and not why)


def _of_load(judged: Judged) -> Cause | None:
    """Requests that are refused by the same status, or a rate that the service does not keep."""
    record = judged.record
    values = {value.metric: value.value for value in record.values if not value.labels}
    kinds: Mapping[str, int] = record.extra.get("failures", {})
    kind = max(kinds, key=lambda each: kinds[each], default="")
    failed, told = values.get("errors_total", 0.0), " ".join(judged.violations)
    allowed = validity.MAX_ERROR_SHARE * values.get("requests_total", 0.0)
    if _STATUS.match(kind) and failed > CLEARLY * allowed:
        return Cause(f"failed: {kind}", told, "Mend the service or its load")
    asked = values.get("rate_asked", 0.0)
    missed = asked - values.get("rate_achieved", asked)
    if missed > CLEARLY * (1 - validity.MIN_RATE_SHARE) * asked:
        return Cause("rate", told, "Set a lower `rate` in an experiment's `loads`", ELSEWHERE)
    return None


def _to_blame(record: TrialRecord) -> list[str]:
    """The collectors of a shared trial that spoilt it; the next attempt goes without them."""
    if DIED in record.extra:
        return []
    told: Mapping[str, str] = record.extra.get(blame.BLAMED, {})
    return [record.extra[CULPRIT]] if CULPRIT in record.extra else list(told)


def _times(count: int) -> str:
    return f"{count} trials in a row were spoilt by the same, which does not pass by itself:"


def _is_bare(experiment: Experiment, trial: Trial) -> bool:
    arm = experiment.arm(trial.arm)
    return not (arm.collectors or arm.against)
