"""The planner: complete blocks, balance, reversal, and the same order for the same seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InputError
from harness.model import Arm
from harness.plan import experiment
from harness.plan.experiment import Experiment

ARMS = (Arm("baseline"), Arm("http", ("http",)), Arm("all", ("http", "flows")))


@given(seed=st.integers(0, 2**31), blocks=st.integers(1, 6))
def test_every_block_is_complete_and_its_successor_is_the_mirror(seed: int, blocks: int) -> None:
    e = Experiment("e", ("go", "java"), ARMS, seed=seed, blocks=blocks)
    switched = [t for t in experiment.plan(e) if t.kind == "switched"]
    assert Counter((t.workload, t.block, t.arm) for t in switched) == Counter(
        (w, b, a.name) for w in e.workloads for b in range(blocks) for a in ARMS
    )
    for workload in e.workloads:
        order = [
            [t.arm for t in switched if (t.workload, t.block) == (workload, b)]
            for b in range(blocks)
        ]
        for even in range(0, blocks - 1, 2):
            assert order[even] == order[even + 1][::-1]


@given(seed=st.integers(0, 2**31))
def test_plan_is_a_function_of_the_seed(seed: int) -> None:
    e = Experiment("e", ("go",), ARMS, seed=seed)
    assert experiment.plan(e) == experiment.plan(e)
    assert len({t.name for t in experiment.plan(e)}) == len(experiment.plan(e))


@given(seed=st.integers(0, 2**31), quadruples=st.integers(1, 200))
def test_quadruples_cancel_linear_drift(seed: int, quadruples: int) -> None:
    states = experiment.pattern(quadruples, seed)
    assert len(states) == 4 * quadruples
    for start in range(0, len(states), 4):
        signs = [1 if on else -1 for on in states[start : start + 4]]
        assert sum(signs) == 0
        assert sum(sign * place for place, sign in enumerate(signs)) == 0
    assert states == experiment.pattern(quadruples, seed)


def test_both_orders_occur() -> None:
    firsts = experiment.pattern(400, 1)[::4]
    assert 150 < sum(firsts) < 250


@pytest.mark.parametrize("name", [p.stem for p in experiment.SHIPPED.glob("*.toml")
                                  if "arms" in p.read_text()])  # fmt: skip
def test_shipped_experiments_load_and_survive_the_store(name: str) -> None:
    e = experiment.load(Path(name))
    assert experiment.from_dict(experiment.to_dict(e)) == e


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x =", "not valid TOML"),
        ('workloads = ["go"]', "lacks the key 'arms'"),
        (
            'workloads = ["go"]\narms = [{name = "baseline"}]\nblock = 3',
            "unknown keys: block. Instead of block it may be blocks.",
        ),
        (
            'workloads = ["go"]\narms = [{name = "baseline"}]\nzzz = 3',
            "unknown keys: zzz. Leave zzz out. docs/guide.md",
        ),
        (
            'workloads = ["go"]\narms = [{name = "baseline"}, {nmae = "http"}]',
            "Arm 2 of .* has unknown keys: nmae. Instead of nmae it may be name. There are: ",
        ),
        (
            'workloads = ["go"]\narms = [{name = "a", collectors = ["http"], agianst = ["x"]}]',
            "Instead of agianst it may be against.",
        ),
        (
            'workloads = ["go"]\narms = [{collectors = ["http"]}]',
            "Arm 1 of .* lacks the key 'name'",
        ),
        (
            'workloads = ["go"]\narms = [{name = "a", collectors = "http"}]',
            r"""collectors must be a list of names, not 'http'. Write collectors = \["http"\]""",
        ),
        ('workloads = "go"\narms = []', r"workloads must be a list of names, not 'go'"),
        (
            'workloads = ["go"]\n[arms]\nname = "baseline"',
            r"is no list. Begin each with .*\[\[arms",
        ),
        ('workloads = ["go"]\narms = ["http"]', r"Arm 1 of .* is not a table. Begin it with"),
        (
            'workloads = ["go"]\narms = [{name = "baseline"}]\n[loads.go]\nrates = 5',
            r"\[loads.go\] of .* has unknown keys: rates. Instead of rates it may be rate.",
        ),
        (
            'workloads = ["go"]\narms = [{name = "baseline"}]\nloads = {go = 5}',
            r"\[loads.go\] of .* is not a table.",
        ),
        ('workloads = ["go"]\narms = [{name = "http", collectors = ["http"]}]', "'baseline'"),
        ('workloads = ["go"]\narms = [{name = "baseline"}]\nblocks = 0', "at least 1"),
        (
            'workloads = ["go"]\narms = [{name = "baseline"}]\nload_workers = 1.5',
            "load_workers must be a whole",
        ),
        (
            'workloads = ["go"]\nload_workers = 2\narms = [{name = "baseline"}, '
            '{name = "a", collectors = ["http"], method = "twin"}]',
            "method twin, whose load",
        ),
        ('workloads = ["go"]\narms = [{name = "baseline"}]\nguard_seconds = 0.06', "half"),
        ('workloads = ["go"]\narms = [{name = "baseline"}]\n[loads.java]\nrate = 5', "java"),
        ('workloads = ["go"]\narms = [{name = "baseline"}]\n[loads.go]\nrate = -5', "positive"),
        (
            'workloads = ["go"]\narms = [{name = "baseline"}, {name = "a.9", collectors = ["x"]}]',
            "'a.9' cannot name an arm",
        ),
        (
            'workloads = ["go"]\narms = [{name = "baseline"}, {name = "a/b", collectors = ["x"]}]',
            "'a/b' cannot name an arm",
        ),
        ('workloads = ["../go"]\narms = [{name = "baseline"}]', "cannot name a workload"),
        ('workloads = ["Go"]\narms = [{name = "baseline"}]', "lower-case"),
        (
            'workloads = ["go"]\narms = [{name = "baseline"}]\nblocks = "two"',
            "blocks must be a whole",
        ),
        (
            'workloads = ["go"]\narms = [{name = "baseline"}]\nblocks = 1.5',
            "blocks must be a whole",
        ),
        ('workloads = ["go"]\narms = [{name = "baseline"}]\nseed = true', "seed must be a whole"),
        ('workloads = ["go"]\narms = [{name = "baseline"}]\nwarmup_seconds = nan', "be a number"),
        ('workloads = ["go"]\narms = [{name = "baseline"}]\nbudget_seconds = inf', "be a number"),
        ('workloads = ["go"]\narms = [{name = "baseline"}]\n[loads.go]\nrate = nan', "be a number"),
        ('workloads = ["go"]\narms = [{name = "baseline"}]\n[loads.go]\nmax_rate = 0', "positive"),
        (
            'workloads = ["go"]\narms = [{name = "baseline"}]\n[loads.go]\nconnections = 1.5',
            "whole",
        ),
    ],
)
def test_bad_files_are_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "e.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        experiment.load(path)


def test_what_is_no_text_file_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        experiment.load(tmp_path)
    path = tmp_path / "e.toml"
    path.write_bytes(b"\xac\xff")
    with pytest.raises(InputError, match="not valid TOML"):
        experiment.load(path)
