"""What it takes that a DaemonSet comes and goes: an allowance, or what an earlier run took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.analysis import foresight
from harness.analysis.foresight import Past
from harness.cli import choice, foretold
from harness.controller import progress
from harness.model import Arm, Window, WindowRow
from harness.plan import experiment, parts
from harness.plan.experiment import Experiment
from harness.report import build, stored
from tests.unit import synthetic

BASELINE = Arm("baseline")
SETTLE, PART = 0.5, 6.0
COMES, GOES = 12.0, 7.0


def _planned(spec: str, blocks: int = 6, **others: object) -> Experiment:
    arms = (BASELINE, Arm("a", (spec,), (), "block"))
    planned = synthetic.experiment(workloads=("go",), arms=arms, blocks=blocks)
    return replace(planned, settle_seconds=SETTLE, **others)  # type: ignore[arg-type]


def _trial(states: Sequence[bool], comes: float = COMES) -> list[WindowRow]:
    """Parts of a trial, between which something came or went."""
    found, start = list[WindowRow](), 100.0
    for index, on in enumerate(states):
        end = start + PART
        window = Window(index, 0, on, round(1e9 * start), round(1e9 * end))
        found.append(WindowRow(window, {}))
        start = end + SETTLE + (GOES if on else comes)
    return found


def _past(spec: str, *trials: Sequence[WindowRow], name: str = "first") -> Past:
    def told(asked: str) -> Sequence[Sequence[WindowRow]]:
        return trials if asked == spec else ()

    return Past(name, _planned(spec), {}, parts=told)


@pytest.mark.parametrize("spec", ["daemonset:a/b", "pixie"])
def test_a_plan_reckons_with_an_allowance_and_says_that_it_is_one(spec: str) -> None:
    e, other = _planned(spec), _planned("bpftrace")
    each = (parts.TIMES + 1) * parts.MOVE_SECONDS - 2 * parts.INSTALL_SECONDS
    assert e.expected_seconds() - other.expected_seconds() == pytest.approx(6 * each)
    line = next(line for line in choice.plan(e) if "arm a" in line)
    assert "47 s beside them: an allowance of 15 s each of the 3 times that its pod comes" in line
    assert "that its pod comes and goes" in line
    assert "told it" not in line  # whatever runs have told, it is what is reckoned with
    assert "allowance" not in "".join(choice.plan(other))
    assert "allowance" not in "".join(choice.plan(_planned("hubble")))


def test_how_far_a_run_is_reckons_with_it_too() -> None:
    for kind, more in (
        ("switched", parts.TIMES * parts.MOVE_SECONDS - 2 * parts.INSTALL_SECONDS),
        ("metered", parts.MOVE_SECONDS),
    ):
        moved, other = (
            sum(
                progress._seconds(e, trial)
                for trial in experiment.plan(e)
                if (trial.arm, trial.kind) == ("a", kind)
            )
            for e in (_planned("daemonset:a/b", 1), _planned("bpftrace", 1))
        )
        assert moved - other == pytest.approx(more)


def test_what_an_earlier_run_took_is_told_of_the_same_daemonset() -> None:
    first, second = _trial(parts.states(True)), _trial(parts.states(False))
    e = _planned("daemonset:a/b", 10)
    (found,) = foresight.moving(e, [_past("daemonset:a/b", first, second, _trial((True, False)))])
    assert (found.spec, found.run) == ("daemonset:a/b", "first")
    assert (found.coming, found.going) == pytest.approx((COMES, GOES))
    assert found.more == pytest.approx(10 * 4 * (COMES + GOES - parts.MOVE_SECONDS))
    assert foretold._moving(found) == (
        "daemonset:a/b took 12 s to come and 7 s to go in run first: 3 minutes more in all than "
        "the allowance for it"
    )
    half = replace(e, budget_seconds=e.expected_seconds() / 4)
    (less,) = foresight.moving(half, [_past("daemonset:a/b", first)])
    assert less.more < found.more / 2


def test_one_slow_pod_is_not_taken_for_all() -> None:
    slow = _trial(parts.states(False), comes=170.0)
    others = [_trial(parts.states(False)) for _ in range(2)]
    (found,) = foresight.moving(_planned("pixie"), [_past("pixie", slow, *others)])
    assert found.coming == pytest.approx(COMES)


def test_where_it_took_less_that_is_said() -> None:
    quick = _trial(parts.states(True), comes=4.0)
    (found,) = foresight.moving(_planned("pixie"), [_past("pixie", quick)])
    assert found.more == pytest.approx(6 * 4 * (4.0 + GOES - parts.MOVE_SECONDS)) == -96.0
    assert foretold._moving(found).endswith(": 2 minutes less in all than the allowance for it")


@pytest.mark.parametrize(
    "past",
    [
        [],
        [_past("daemonset:a/other", _trial(parts.states(True)))],
        [_past("daemonset:a/b")],
        [_past("daemonset:a/b", _trial((True, False)))],  # it was not seen to come
    ],
)
def test_what_was_not_moved_before_is_not_told(past: list[Past]) -> None:
    assert list(foresight.moving(_planned("daemonset:a/b"), past)) == []


def test_the_newest_that_tells_is_asked_and_others_need_not_be() -> None:
    empty, told = _past("pixie", name="empty"), _past("pixie", _trial(parts.states(True)))
    (found,) = foresight.moving(_planned("pixie"), [empty, told])
    assert found.run == "first"
    assert list(foresight.moving(_planned("bpftrace"), [told])) == []
    assert list(foresight.moving(_planned("hubble"), [told])) == []


def test_it_is_read_of_the_parts_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one whose collector is taken for a DaemonSet."""
    e = _planned("http")
    run = synthetic.write(tmp_path / "moved", e)
    facts = stored.measured(build.build(run).json).facts
    assert [len(rows) for rows in foretold._in_parts(run, "http")] == [parts.PARTS] * 6
    assert list(foretold._in_parts(run, "flows")) == []
    assert all(" took " not in line for line in foretold.lines(e, tmp_path, facts, "local"))
    monkeypatch.setattr(parts, "is_moved", lambda arm: bool(arm.collectors))
    (line,) = [each for each in foretold.lines(e, tmp_path, facts, "local") if " took " in each]
    assert line.startswith("http took ")
    assert " to go in run moved: " in line
