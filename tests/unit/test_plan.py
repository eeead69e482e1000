"""Properties of the planner: balance, reversal, and the same order for the same seed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from harness.model import BASELINE, Arm, Trial
from harness.plan import experiment
from harness.plan.experiment import Experiment

NAMES = ("http", "flows", "profile", "guard", "all")


@st.composite
def experiments(draw: st.DrawFn) -> Experiment:
    """Any that can be run: 1 to 3 workloads, 1 to 6 arms, 1 to 8 blocks, metered or not."""
    arms = draw(st.lists(st.sampled_from(NAMES), max_size=5, unique=True))
    return Experiment(
        "e",
        tuple(draw(st.lists(st.sampled_from(("go", "flask", "java")), min_size=1, unique=True))),
        (Arm(BASELINE), *(Arm(name, (name,)) for name in arms)),
        seed=draw(st.integers(0, 2**63)),
        blocks=draw(st.integers(1, 8)),
        metered_seconds=draw(st.sampled_from((0.0, 2.0))),
    )


def order(trials: list[Trial], workload: str, block: int, kind: str) -> list[str]:
    return [t.arm for t in trials if (t.workload, t.block, t.kind) == (workload, block, kind)]


@given(experiments())
def test_each_arm_runs_once_in_each_block(e: Experiment) -> None:
    count = Counter((t.workload, t.block, t.arm) for t in experiment.plan(e) if t.kind != "metered")
    assert count == {
        (w, b, a.name): 1 for w in e.workloads for b in range(e.blocks) for a in e.arms
    }


@given(experiments())
def test_blocks_come_in_pairs_of_opposite_order(e: Experiment) -> None:
    trials = experiment.plan(e)
    for workload in e.workloads:
        for block in range(0, e.blocks - 1, 2):
            first, second = (order(trials, workload, b, "switched") for b in (block, block + 1))
            assert first == second[::-1]


@given(experiments())
def test_a_linear_drift_cancels_over_a_pair_of_blocks(e: Experiment) -> None:
    trials = experiment.plan(e)
    for workload in e.workloads:
        for block in range(0, e.blocks - 1, 2):
            both = [
                arm for b in (block, block + 1) for arm in order(trials, workload, b, "switched")
            ]
            places = {arm: sum(i for i, name in enumerate(both) if name == arm) for arm in both}
            assert len(set(places.values())) == 1


@given(experiments())
def test_each_block_meters_every_arm_with_collectors(e: Experiment) -> None:
    trials = experiment.plan(e)
    wanted = sorted(a.name for a in e.arms if a.collectors) if e.metered_seconds else []
    for workload in e.workloads:
        for block in range(e.blocks):
            assert sorted(order(trials, workload, block, "metered")) == wanted


@given(experiments())
def test_a_block_is_run_as_a_whole(e: Experiment) -> None:
    """A workload's process lives for one block, so a block's trials follow each other."""
    places = [(t.workload, t.block) for t in experiment.plan(e)]
    entered = [after for before, after in pairwise([None, *places]) if before != after]
    assert len(entered) == len(set(entered))
    assert [t.index for t in experiment.plan(e)] == list(range(len(places)))


@given(experiments())
def test_the_seed_alone_decides(e: Experiment) -> None:
    again = experiment.from_dict(experiment.to_dict(e))
    assert experiment.plan(again) == experiment.plan(e)
    names = [t.name for t in experiment.plan(e)]
    assert len(set(names)) == len(names)


def test_another_seed_gives_another_order() -> None:
    arms = (Arm(BASELINE), *(Arm(name, (name,)) for name in NAMES))
    orders = {
        tuple(t.arm for t in experiment.plan(Experiment("e", ("go",), arms, seed=s, blocks=1)))
        for s in range(50)
    }
    assert len(orders) > 40


def test_every_arm_comes_first_about_equally_often() -> None:
    arms = (Arm(BASELINE), *(Arm(name, (name,)) for name in NAMES))
    first = Counter(
        experiment.plan(Experiment("e", ("go",), arms, seed=s, blocks=1))[0].arm for s in range(600)
    )
    assert len(first) == len(arms)
    assert min(first.values()) > 60  # 100 expected


@given(st.integers(1, 300), st.integers(0, 2**63))
def test_patterns_are_balanced_within_quadruples(quadruples: int, seed: int) -> None:
    states = experiment.pattern(quadruples, seed)
    for at in range(0, 4 * quadruples, 4):
        a, b, c, d = states[at : at + 4]
        assert a == d
        assert b == c
        assert a != b
    assert states == experiment.pattern(quadruples, seed)
