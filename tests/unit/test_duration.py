"""How long an evaluation is made to take."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import InputError
from harness.plan import duration, experiment

QUICK, STANDARD = (experiment.load(Path(name)) for name in ("quick", "standard"))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("3m", 180), ("1h30m", 5400), ("1.5m", 90), ("2h", 7200)]
)
def test_durations_are_read_as_people_say_them(text: str, seconds: float) -> None:
    assert duration.seconds(text) == seconds


@pytest.mark.parametrize("text", ["3", "", "m", "3 m", "0m", "-3m", "3d", "3m!", "m3"])
def test_what_could_be_misread_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="Write it as in"):
        duration.seconds(text)


@pytest.mark.parametrize("e", [QUICK, STANDARD], ids=["quick", "standard"])
@pytest.mark.parametrize("seconds", [180, 300, 600, 1800, 7200])
def test_an_experiment_fills_the_time_that_it_is_given(
    e: experiment.Experiment, seconds: float
) -> None:
    found = duration.lasting(e, seconds)
    assert found.expected_seconds() == pytest.approx(seconds, rel=0.02)
    assert 2 <= found.blocks <= duration.MANY
    assert found.min_blocks <= found.blocks
    assert (found.arms, found.workloads, found.seed) == (e.arms, e.workloads, e.seed)


def test_more_time_never_has_fewer_blocks() -> None:
    blocks = [duration.lasting(STANDARD, s).blocks for s in range(120, 1800, 30)]
    assert blocks == sorted(blocks)


def test_too_little_time_is_refused_with_what_it_takes() -> None:
    with pytest.raises(InputError, match=r"take about \d+ s"):
        duration.lasting(QUICK, 60)


def test_a_first_look_takes_a_minute_a_service() -> None:
    assert duration.quick(STANDARD).expected_seconds() == pytest.approx(60, rel=0.05)
    assert duration.quick(QUICK).expected_seconds() == pytest.approx(180, rel=0.05)


def test_rigorous_is_as_exact_as_the_experiment_that_ships() -> None:
    found = duration.rigorous(QUICK)
    for key in ("blocks", "min_blocks", "precision_percent", "switched_seconds"):
        assert getattr(found, key) == getattr(STANDARD, key)


def test_so_many_blocks_are_planned() -> None:
    done = CliRunner().invoke(app, ["evaluate", "--workload", "go", "--blocks", "3", "--plan"])
    assert done.exit_code == 0, done.output
    assert "3 blocks" in done.stdout


def test_two_lengths_are_refused() -> None:
    words = ["--duration", "3m", "--rigorous", "--plan"]
    done = CliRunner().invoke(app, ["evaluate", *words])
    assert done.exit_code == 2
    assert "--duration and --rigorous each say" in done.stderr
