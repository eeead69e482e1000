"""What ends the trials of an arm or a service before their time, and what does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.analysis.blame import BLAMED
from harness.analysis.harms import DIED
from harness.controller.due import CULPRIT
from harness.controller.spoilt import GivenUp, Spoilt
from harness.errors import CollectorError, HarnessError, LoadError
from harness.load.phase import Phase, Stopped
from harness.load.schedule import Schedule
from harness.model import FACTORIAL, Arm, Measurement, Trial, TrialStatus, WindowRow
from harness.plan.experiment import plan
from harness.results.run import TrialRecord
from tests.unit import synthetic

ARMS = (Arm("baseline"), Arm("http", ("http",)), Arm("flows", ("flows",)))
WHAT = synthetic.experiment(
    workloads=("go",), arms=ARMS, blocks=3, switched_seconds=1.2, metered_seconds=0.5,
    saturated_seconds=1.6,
)  # fmt: skip
WHAT_NOT_FULL = replace(WHAT, saturated_seconds=0.0)
SHARED = replace(
    WHAT,
    arms=(
        Arm("baseline", method=FACTORIAL),
        *(Arm(name, (name,), method=FACTORIAL) for name in ("http", "flows", "guard")),
    ),
    switched_seconds=6.4, saturated_seconds=0.0,
)  # fmt: skip
DIES = CollectorError("The agent of collector 'http' ended with exit code 1.", "No map.")
REFUSED = {"requests_total": 1000.0, "errors_total": 20.0}
MISSED = {"rate_asked": 500.0, "rate_achieved": 400.0}
BUSY = {"500 Internal Server Error": 20}


def trial(arm: str, block: int = 0, kind: str = "switched", what: Any = WHAT) -> Trial:
    return next(t for t in plan(what) if (t.arm, t.block, t.kind) == (arm, block, kind))


def rows(each: Trial, what: Any = WHAT) -> Sequence[WindowRow]:
    return synthetic.windows(what, each, synthetic.Truth(), np.random.default_rng(1))


class Told:
    """A run's trials as they end, one after the other; what is given up for them."""

    def __init__(self, what: Any = WHAT, **known: Any) -> None:
        self.given_up: list[GivenUp] = []
        self.spoilt, self.what = Spoilt(self.given_up.append, **known), what

    def ends(
        self,
        each: Trial,
        values: Mapping[str, float] | None = None,
        error: HarnessError | None = None,
        *,
        ours: bool = True,
        extra: Mapping[str, Any] | None = None,
    ) -> list[GivenUp]:
        """It ended with an error, or with these values; usable without either."""
        told = error.to_dict() if error else {}
        kept = tuple(
            Measurement(name, value, "1", each.workload, each.arm, each.block, each.name)
            for name, value in (values or {}).items()
        )
        status: TrialStatus = "failed" if error else "ok"
        record = TrialRecord(each, status, str(error or ""), kept, dict(extra or {}))
        windows = [] if error or each.kind == "metered" else rows(each, self.what)
        return self.spoilt.note(self.what, record, windows, told, is_ours=ours)

    def left(self) -> set[str]:
        """Arms of which a later trial is still begun."""
        return {t.arm for t in plan(self.what) if t.block == 2 and not self.spoilt.reason(t)}


def refused(told: Told, arm: str, block: int = 0, kind: str = "switched") -> list[GivenUp]:
    return told.ends(trial(arm, block, kind), REFUSED, extra={"failures": BUSY})


def missed(told: Told, arm: str, block: int = 0) -> list[GivenUp]:
    return told.ends(trial(arm, block), MISSED)


def dies(told: Told, arm: str, block: int = 0, kind: str = "switched") -> list[GivenUp]:
    return told.ends(trial(arm, block, kind), error=DIES)


def test_a_collector_that_ends_twice_in_the_same_way_ends_its_arm_and_no_other() -> None:
    told = Told()
    assert dies(told, "http") == []
    told.ends(trial("flows"))
    told.ends(trial("baseline"))
    (given_up,) = dies(told, "http", kind="metered")
    assert (given_up.workload, given_up.arm, given_up.collector) == ("go", "http", "")
    assert given_up.reason == (
        "go: arm http is given up. 2 trials in a row were spoilt by the same, which does not pass "
        f"by itself: {DIES} Mend the collector, then resume the run: the rest is measured then."
    )
    assert told.left() == {"baseline", "flows"}
    assert told.given_up == [given_up]


def test_a_service_that_refuses_with_nothing_installed_is_given_up_as_a_whole() -> None:
    told = Told()
    assert refused(told, "http") == []
    (given_up,) = refused(told, "baseline")
    assert (given_up.workload, given_up.arm) == ("go", "")
    assert given_up.reason.startswith("go is given up. 2 trials in a row were spoilt")
    assert "20 of 1000 requests failed (limit 0.1%)." in given_up.reason
    assert "How they failed: 20 x 500 Internal Server Error." in given_up.reason
    assert "Mend the service or its load" in given_up.reason
    assert told.left() == set()
    assert told.spoilt.covers([t for t in plan(WHAT) if t.block == 1])


def test_a_service_that_refuses_with_a_collector_only_is_gone_on_with_without_it() -> None:
    told = Told()
    told.ends(trial("baseline"))
    refused(told, "http")
    (given_up,) = refused(told, "http", kind="metered")
    assert given_up.arm == "http"
    assert told.left() == {"baseline", "flows"}
    assert not told.spoilt.covers([t for t in plan(WHAT) if t.block == 1])


def test_two_collectors_that_do_the_same_are_no_proof_against_the_service() -> None:
    """Each may be too much for it; only with nothing installed is it the service itself."""
    told = Told()
    assert missed(told, "http") == missed(told, "flows") == []
    (given_up,) = missed(told, "baseline")
    assert given_up.arm == ""


def test_a_rate_that_is_missed_with_a_collector_ends_its_arm_and_wants_another_run() -> None:
    told = Told()
    told.ends(trial("baseline"))
    assert missed(told, "http") == []
    (given_up,) = missed(told, "http", 1)
    assert "400 of 500 requests a second were achieved (limit 98%)." in given_up.reason
    assert given_up.reason.endswith(
        "Set a lower `rate` in an experiment's `loads`, in a run of its own."
    )
    assert told.left() == {"baseline", "flows"}


def test_the_second_attempt_of_a_trial_counts_as_the_next_trial() -> None:
    told = Told()
    first = trial("http")
    assert told.ends(first, MISSED) == []
    assert len(told.ends(replace(first, attempt=1), MISSED)) == 1


def test_where_the_last_arm_is_given_up_nothing_is_left_to_compare() -> None:
    told = Told(skipped={"flows": "The kernel lacks it."})
    dies(told, "http")
    (given_up,) = dies(told, "http", 1)
    assert "arm http is given up, and nothing is left to compare." in given_up.reason
    assert given_up.arm == ""
    assert told.left() == set()


MAY_PASS: dict[str, Callable[[Told, Trial], object]] = {
    "the hypervisor": lambda told, each: told.ends(each, {**MISSED, "steal_share": 0.5}),
    "a neighbour": lambda told, each: told.ends(each, {**MISSED, "cpu_pressure_share": 0.9}),
    "a CPU limit": lambda told, each: told.ends(each, {**MISSED, "throttled_share": 0.5}),
    "the load driver itself": lambda told, each: told.ends(
        each, MISSED, extra={"saturated": "the load driver was late: 30.0 ms"}
    ),
    "answers that do not come": lambda told, each: told.ends(
        each, REFUSED, extra={"failures": {"timed out": 20}}
    ),
    "what nobody counted": lambda told, each: told.ends(each, REFUSED),
    "a limit that is nearly met": lambda told, each: told.ends(
        each, {**REFUSED, "errors_total": 2.0}, extra={"failures": {"500 Internal": 2}}
    ),
    "a rate that is nearly kept": lambda told, each: told.ends(
        each, {"rate_asked": 500.0, "rate_achieved": 485.0}
    ),
    "a driver that ended": lambda told, each: told.ends(each, error=LoadError("It ended.", "x")),
    "an agent that is slow": lambda told, each: told.ends(
        each, error=CollectorError("The agent of collector 'http' does not answer.", "timed out.")
    ),
    "an agent that is slow to start": lambda told, each: told.ends(
        each, error=CollectorError("Collector 'http' did not start.")
    ),
    "whoever restarts the service": lambda told, each: told.ends(
        each, error=DIES, ours=False, extra={DIED: "The service is no longer the one."}
    ),
    "a service that is full": lambda told, each: told.ends(
        trial(each.arm, each.block, "saturated"), error=DIES
    ),
    "something else each time": lambda told, each: told.ends(
        each, error=CollectorError(f"It failed: KeyError: {each.index}.")
    ),
    "another status each time": lambda told, each: told.ends(
        each, REFUSED, extra={"failures": {f"{500 + each.index} Something": 20}}
    ),
}


@pytest.mark.parametrize("what", MAY_PASS)
def test_what_may_pass_by_itself_ends_nothing(what: str) -> None:
    told = Told()
    for block in range(3):
        for arm in ("baseline", "http"):
            MAY_PASS[what](told, trial(arm, block))
    assert told.given_up == []
    assert told.left() == {"baseline", "http", "flows"}


def test_a_usable_trial_of_the_kind_between_two_spoilt_ones_shows_that_it_passes() -> None:
    told = Told()
    for block in range(3):
        assert dies(told, "http", block) == []
        told.ends(trial("http", block))
        assert refused(told, "baseline", block) == []
        told.ends(trial("baseline", block))


def test_a_usable_trial_of_another_kind_shows_nothing_of_it() -> None:
    """A metered trial is not asked whether it kept the rate."""
    told = Told()
    missed(told, "http")
    told.ends(trial("http", kind="metered"))
    assert len(missed(told, "http", 1)) == 1


def test_all_connections_that_wait_go_with_a_missed_rate() -> None:
    """The words by which a driver says so are those that the rule knows."""
    schedule = Schedule(0, 100.0)
    phase = Phase(schedule)
    schedule.taken, phase.stopped = 100, Stopped(1.0, 0.1, 10)
    said = phase.saturation(16)
    assert "only 10 of 100 requests" in said
    told = Told()
    told.ends(trial("http"), MISSED, extra={"saturated": said})
    assert len(told.ends(trial("http", 1), MISSED, extra={"saturated": said})) == 1


def test_a_service_that_dies_twice_in_one_arm_costs_the_others_no_more_blocks() -> None:
    told, died = Told(), "The workload 'go' died (exit code 137). Out of memory at 12:00:01."
    told.ends(trial("http"), error=LoadError("No answer."), extra={DIED: died})
    told.ends(trial("baseline", 1))
    later = died.replace("01", "59")
    (given_up,) = told.ends(trial("http", 1), error=LoadError("No."), extra={DIED: later})
    assert given_up.arm == "http"
    assert later in given_up.reason


def test_a_collector_that_ends_shared_trials_is_left_out_of_the_next_from_the_start() -> None:
    told = Told(SHARED)
    first, second, third = (trial(FACTORIAL, block, what=SHARED) for block in range(3))
    assert told.ends(first, error=DIES, extra={CULPRIT: "http"}) == []
    without = {"left_out": {"http": "It ended."}}
    told.ends(replace(first, attempt=1), extra=without)
    (given_up,) = told.ends(second, error=DIES, extra={CULPRIT: "http"})
    assert given_up.collector == "http"
    assert "trials that arms share go on without it." in given_up.reason
    assert given_up.reason.endswith("Mend the collector, in a run of its own.")
    assert set(told.spoilt.without(third)) == {"http"}
    assert str(DIES) in told.spoilt.without(third)["http"]
    assert not told.spoilt.reason(third)
    assert told.spoilt.without(trial("http")) == {}


def test_one_that_was_on_in_a_usable_shared_trial_is_not() -> None:
    told = Told(SHARED)
    first, second, third = (trial(FACTORIAL, block, what=SHARED) for block in range(3))
    told.ends(first, error=DIES, extra={CULPRIT: "http"})
    told.ends(second)
    assert told.ends(third, error=DIES, extra={CULPRIT: "http"}) == []


def test_shared_trials_of_which_no_collector_is_left_are_given_up() -> None:
    told = Told(SHARED)
    for block in range(2):
        for name in ("http", "flows", "guard"):
            error = CollectorError(f"Collector {name!r} ended.", "x")
            told.ends(trial(FACTORIAL, block, what=SHARED), error=error, extra={CULPRIT: name})
    assert [each.collector for each in told.given_up] == ["http", "flows", ""]
    assert "the trial that arms share is given up" in told.given_up[-1].reason
    assert told.left() == set()


def test_collectors_that_failed_requests_go_with_are_left_out_too() -> None:
    told = Told(SHARED)
    for block in range(2):
        each = trial(FACTORIAL, block, what=SHARED)
        told.ends(each, REFUSED, extra={"failures": BUSY, BLAMED: {"flows": "2% failed."}})
    (given_up,) = told.given_up
    assert (given_up.collector, given_up.arm) == ("flows", FACTORIAL)


def test_shared_trials_that_nobody_is_to_blame_for_are_given_up() -> None:
    told = Told(SHARED)
    for block in range(2):
        told.ends(trial(FACTORIAL, block, what=SHARED), REFUSED, extra={"failures": BUSY})
    (given_up,) = told.given_up
    assert "the trial that arms share is given up, and nothing is left" in given_up.reason
