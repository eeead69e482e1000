"""Who gets which CPU."""

from __future__ import annotations

import pytest

from harness.linux.placement import Placement, parse_cpus, placement, plan


def _roles(place: Placement) -> tuple[tuple[int, ...], ...]:
    return place.workload, place.load, place.collector, place.orchestrator, place.idle


def _alone(cpus: list[int]) -> dict[int, list[int]]:
    return {cpu: [cpu] for cpu in cpus}


@pytest.mark.parametrize(
    ("cpus", "roles"),
    [
        ([3], ((3,), (3,), (3,), (3,), ())),
        ([0, 1], ((0,), (1,), (1,), (1,), ())),
        ([2, 5, 6], ((2,), (5,), (6,), (6,), ())),
        ([0, 1, 2, 3], ((0,), (1,), (2,), (3,), ())),
    ],
)
def test_cores_of_one_thread(cpus: list[int], roles: tuple[tuple[int, ...], ...]) -> None:
    assert _roles(plan(cpus, _alone(cpus))) == roles


def test_the_sibling_of_the_workload_stays_idle() -> None:
    siblings = {0: [0, 2], 2: [0, 2], 1: [1, 3], 3: [1, 3]}
    place = plan([0, 1, 2, 3], siblings)
    assert _roles(place) == ((0,), (1,), (3,), (3,), (2,))
    assert "stays idle" in place.why


def test_the_sibling_works_where_there_are_too_few() -> None:
    place = plan([0, 1, 2], {0: [0, 1], 1: [0, 1], 2: [2]})
    assert _roles(place) == ((0,), (1,), (2,), (2,), ())
    assert "too few" in place.why


def test_sharing_is_said() -> None:
    assert "share" in plan([0], {0: [0]}).why
    assert "two threads of one core" in plan([0, 1], {0: [0, 1], 1: [0, 1]}).why


def test_this_machine_has_a_plan() -> None:
    assert placement().workload


def test_cpu_lists() -> None:
    assert parse_cpus("0-2,7\n") == [0, 1, 2, 7]
    assert parse_cpus("\n") == []
