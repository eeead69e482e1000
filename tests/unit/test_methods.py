"""Which arms are factorial without saying so, and what their experiments look like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.model import FACTORIAL, Arm
from harness.plan import design, experiment, methods
from harness.plan.experiment import Experiment

ONE, TWO = {"name": "http", "collectors": ["http"]}, {"name": "flows", "collectors": ["flows"]}
BASELINE = {"name": "baseline"}


def read(*arms: Mapping[str, Any], **keys: Any) -> Experiment:
    return experiment.from_dict({"name": "e", "workloads": ["go"], "arms": list(arms), **keys})


def told(e: Experiment) -> dict[str, str]:
    return {arm.name: arm.method for arm in e.arms}


@pytest.mark.parametrize(
    ("arms", "keys", "methods_of"),
    [
        ([ONE, TWO], {}, ["factorial"] * 3),
        ([ONE], {}, ["switch"] * 2),
        ([ONE, {"name": "new", "collectors": ["flows"], "against": ["guard"]}], {}, ["switch"] * 3),
        ([ONE, {**TWO, "method": "switch"}], {}, ["switch"] * 3),
        ([ONE, {**TWO, "method": "factorial"}], {}, ["factorial"] * 3),
        ([ONE, {**TWO, "method": "twin"}], {}, ["switch", "switch", "twin"]),
        ([ONE, TWO], {"stack": "full"}, ["switch"] * 3),
        ([ONE, {"name": "fast", "collectors": ["http:sample=1"]}], {}, ["switch"] * 3),
        ([ONE, {**ONE, "name": "again"}], {}, ["switch"] * 3),
        (
            [ONE, {"name": "fast", "collectors": ["http:sample=1"]}, TWO,
             {"name": "guard", "collectors": ["guard"]}],
            {}, ["factorial", "switch", "switch", "factorial", "factorial"],
        ),
    ],
)  # fmt: skip
def test_arms_that_can_share_their_windows_do(
    arms: Sequence[Mapping[str, Any]], keys: Mapping[str, Any], methods_of: Sequence[str]
) -> None:
    assert list(told(read(BASELINE, *arms, **keys)).values()) == methods_of


def test_what_was_stored_with_a_method_keeps_it() -> None:
    before = Experiment("e", ("go",), (Arm("baseline"), Arm("a", ("http",)), Arm("b", ("flows",))))
    assert experiment.from_dict(experiment.to_dict(before)) == before
    shared = read(BASELINE, ONE, TWO)
    assert experiment.from_dict(experiment.to_dict(shared)) == shared


def test_a_block_has_one_trial_and_one_metered_for_all_that_share() -> None:
    alone = {"name": "alone", "collectors": ["guard"], "method": "switch"}
    e = read(BASELINE, ONE, TWO, alone, blocks=3)
    found = Counter((t.block, t.arm, t.kind) for t in experiment.plan(e))
    assert found == {
        (block, arm, kind): 1
        for block in range(3)
        for arm in (FACTORIAL, "alone")
        for kind in ("switched", "metered")
    }
    shared = next(t for t in experiment.plan(e) if t.arm == FACTORIAL)
    assert [arm.name for arm in e.arms_of(shared)] == ["baseline", "http", "flows"]
    assert (e.trial_arm("flows"), e.trial_arm("alone")) == (FACTORIAL, "alone")
    assert e.arm(FACTORIAL).collectors == ("http", "flows")


def test_sharing_takes_less_time_than_one_after_the_other() -> None:
    shared = read(BASELINE, ONE, TWO)
    apart = read(*({**arm, "method": "switch"} for arm in (BASELINE, ONE, TWO)))
    assert shared.expected_seconds() < 0.6 * apart.expected_seconds()


def test_the_same_arms_one_by_one_share_the_time_of_their_windows() -> None:
    shared = read(BASELINE, ONE, TWO, switched_seconds=30.0)
    apart = methods.apart(shared)
    assert set(told(apart).values()) == {"switch"}
    assert apart.switched_seconds == 10.0
    assert methods.apart(apart) == apart


@pytest.mark.parametrize(
    ("arms", "keys", "words"),
    [
        ([{**ONE, "method": "factorial"}, {**ONE, "name": "again", "method": "factorial"}], {},
         "the same collectors"),
        ([{**ONE, "method": "factorial"}], {"stack": "full"}, 'method = "switch"'),
        ([ONE, TWO], {"switched_seconds": 1.0}, "4 cycles of 8 windows"),
        ([ONE, {**TWO, "name": "factorial"}], {}, "can be named 'factorial'"),
        ([{"name": "none", "method": "factorial"}, ONE], {}, "only 'baseline' has no collectors"),
        ([{**ONE, "method": "factorial", "against": ["flows"]}], {}, "only a switched arm"),
    ],
)  # fmt: skip
def test_what_cannot_be_shared_is_refused(
    arms: Sequence[Mapping[str, Any]], keys: Mapping[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read(BASELINE, *arms, **keys)
    lonely = {"name": "baseline", "method": "factorial"}
    with pytest.raises(InputError, match="no arm with collectors is"):
        read(lonely, {**ONE, "method": "switch"})


@pytest.mark.parametrize("name", ["quick", "standard"])
def test_the_shipped_experiments_give_every_collector_every_window(name: str) -> None:
    e = experiment.load(Path(name))
    assert {arm.method for arm in e.arms} == {FACTORIAL}
    assert len(design.factors(e)) == 5
    if not e.pilot_blocks:  # which gives the time itself
        windows = len(e.workloads) * e.blocks * design.cycles(e) * 16 * e.window_seconds
        assert windows > 0.5 * e.expected_seconds()
    assert e.expected_seconds() < {"quick": 630, "standard": 1900}[name]
