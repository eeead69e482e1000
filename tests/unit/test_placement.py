"""Who gets which CPU: of one to 128, with and without hardware threads, in any numbering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.linux.placement import placement
from harness.wire.placement import MANY, names, parse_cpus, plan
from harness.wire.spec import Placement


@dataclass(frozen=True)
class Machine:
    """The CPUs that may be used, and the hardware threads of each one's core."""

    cpus: Sequence[int]
    siblings: Mapping[int, Sequence[int]]

    @property
    def cores(self) -> set[frozenset[int]]:
        return {frozenset(self.siblings[cpu]) & frozenset(self.cpus) for cpu in self.cpus}


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """1 to 128 CPUs, of which a cpuset may leave some; siblings adjacent, far apart, or mixed."""
    threads = draw(st.sampled_from([1, 1, 2, 2, 4, 8]))
    cores = draw(st.integers(1, 128 // threads))
    total = cores * threads
    numbering = draw(st.sampled_from(["adjacent", "apart", "mixed"]))
    numbers = list(range(total))
    if numbering == "mixed":  # as NUMA nodes and switched off CPUs leave them
        numbers = draw(st.permutations(numbers))
    grouped = [
        [numbers[core * threads + t] if numbering != "apart" else numbers[core + t * cores]
         for t in range(threads)]
        for core in range(cores)
    ]  # fmt: skip
    usable = draw(
        st.one_of(
            st.just(set(range(total))),
            st.sets(st.integers(0, total - 1), min_size=1, max_size=total),
        )
    )
    siblings = {cpu: sorted(core) for core in grouped for cpu in core}
    return Machine(sorted(usable), {cpu: siblings[cpu] for cpu in usable})


LIMITS = st.integers(0, 140)


def _roles(place: Placement) -> tuple[tuple[int, ...], ...]:
    return place.workload, place.load, place.collector, place.orchestrator, place.idle


def _alone(cpus: Sequence[int]) -> dict[int, list[int]]:
    return {cpu: [cpu] for cpu in cpus}


@pytest.mark.parametrize(
    ("cpus", "roles"),
    [
        ([3], ((3,), (3,), (3,), (3,), ())),
        ([0, 1], ((0,), (1,), (1,), (1,), ())),
        ([2, 5, 6], ((2,), (5,), (6,), (6,), ())),
        ([0, 1, 2, 3], ((0, 1), (2,), (3,), (3,), ())),
        ([1, 3, 5, 7, 9, 11], ((1, 3, 5, 7), (9,), (11,), (11,), ())),
    ],
)
def test_cores_of_one_thread(cpus: list[int], roles: tuple[tuple[int, ...], ...]) -> None:
    assert _roles(plan(cpus, _alone(cpus))) == roles


def test_load_and_collectors_have_both_threads_of_a_core() -> None:
    siblings = {cpu: [cpu % 4, cpu % 4 + 4] for cpu in range(8)}
    place = plan(range(8), siblings)
    assert _roles(place) == ((0, 1, 4, 5), (2, 6), (3, 7), (7,), ())


def test_of_two_cores_the_service_keeps_one() -> None:
    siblings = {cpu: [cpu % 2, cpu % 2 + 2] for cpu in range(4)}
    assert _roles(plan(range(4), siblings)) == ((0, 2), (1,), (3,), (3,), ())


def test_of_three_cpus_the_service_has_the_one_that_nobody_slows() -> None:
    place = plan([0, 1, 2], {0: [0, 1], 1: [0, 1], 2: [2]})
    assert _roles(place) == ((2,), (0,), (1,), (1,), ())


def test_smallest_cores_drive_and_collect() -> None:
    """Performance cores with two threads first, then efficient ones with one."""
    siblings = {0: [0, 1], 1: [0, 1], 2: [2, 3], 3: [2, 3], 4: [4], 5: [5], 6: [6]}
    assert _roles(plan(range(7), siblings))[:3] == ((0, 1, 2, 3, 4), (5,), (6,))


def test_several_load_workers_have_more_cores_while_the_service_keeps_one() -> None:
    siblings = {cpu: [cpu % 4, cpu % 4 + 4] for cpu in range(8)}
    wanted = {1: (2, 6), 2: (2, 6), 3: (1, 2, 5, 6), 4: (1, 2, 5, 6), 99: (1, 2, 5, 6)}
    for workers, load in wanted.items():
        place = plan(range(8), siblings, load_workers=workers)
        assert place.load == load
        assert place.collector == (3, 7)
        assert sorted(place.workload + load) == [0, 1, 2, 4, 5, 6]
        assert ("load workers share" in place.why) == (workers > 4)


def test_a_limited_service_has_cores_of_its_own_first() -> None:
    siblings = {cpu: [cpu % 4, cpu % 4 + 4] for cpu in range(8)}
    one, two, three = (plan(range(8), siblings, most) for most in (1, 2, 3))
    assert (one.workload, one.idle) == ((0,), (4,))
    assert (two.workload, two.idle) == ((0, 1), (4, 5))
    assert (three.workload, three.idle) == ((0, 1, 4), (5,))
    assert "Left idle, as other threads of the service's cores: CPUs 4-5." in two.why


@given(machines(), LIMITS)
def test_every_role_has_cpus_that_may_be_used(machine: Machine, most: int) -> None:
    place = plan(machine.cpus, machine.siblings, most)
    for role in _roles(place)[:4]:
        assert role
        assert len(set(role)) == len(role)
        assert set(role) <= set(machine.cpus)


@given(machines())
def test_no_cpu_is_left_over_and_the_service_has_what_the_others_leave(machine: Machine) -> None:
    place = plan(machine.cpus, machine.siblings)
    assert {*place.workload, *place.load, *place.collector} == set(machine.cpus)
    assert place.idle == ()
    assert set(place.orchestrator) <= set(place.collector)


@given(machines(), LIMITS)
def test_from_three_cpus_on_nobody_shares_one_with_the_service(machine: Machine, most: int) -> None:
    place = plan(machine.cpus, machine.siblings, most)
    others = {*place.load, *place.collector, *place.orchestrator}
    if len(machine.cpus) > 1:
        assert not set(place.workload) & others
    if len(machine.cpus) > 2 and len(machine.cores) != 2:
        assert not set(place.load) & set(place.collector)


@given(machines(), LIMITS)
def test_no_core_is_shared_with_the_service_where_there_are_enough(
    machine: Machine, most: int
) -> None:
    place = plan(machine.cpus, machine.siblings, most)
    own, others = set(place.workload), {*place.load, *place.collector}
    shared = any(core & own and core & others for core in machine.cores)
    avoidable = len(machine.cores) > 1
    assert not (shared and avoidable)
    assert shared == ("On a core with the service" in place.why or len(machine.cpus) == 1)


@given(machines())
def test_from_three_cores_on_load_and_collectors_have_one_each(machine: Machine) -> None:
    place = plan(machine.cpus, machine.siblings)
    if len(machine.cores) >= 3 and len(machine.cpus) > 3:
        smallest = sorted(map(len, machine.cores))[:2]
        assert {frozenset(place.load), frozenset(place.collector)} <= machine.cores
        assert sorted((len(place.load), len(place.collector))) == smallest


@given(machines(), st.integers(1, 140))
def test_a_limit_is_kept_and_moves_nobody_else(machine: Machine, most: int) -> None:
    free, limited = (plan(machine.cpus, machine.siblings, each) for each in (0, most))
    assert len(limited.workload) == min(most, len(free.workload))
    assert set(limited.workload) <= set(free.workload)
    assert _roles(limited)[1:4] == _roles(free)[1:4]
    assert ("were asked for" in limited.why) == (most > len(free.workload))


@given(machines(), LIMITS)
def test_no_thread_beside_a_limited_service_is_given_away(machine: Machine, most: int) -> None:
    place = plan(machine.cpus, machine.siblings, most)
    own = set(place.workload)
    spare = set(plan(machine.cpus, machine.siblings).workload) - own
    beside = {cpu for core in machine.cores if core & own for cpu in core} & spare
    assert set(place.idle) == beside


@given(machines(), LIMITS)
def test_why_says_how_many_the_service_has_and_who_limits_it(machine: Machine, most: int) -> None:
    place = plan(machine.cpus, machine.siblings, most)
    if len(machine.cpus) > 1:
        assert f"{len(machine.cpus)} CPUs: the service has {len(place.workload)} (" in place.why
        assert names(place.workload) in place.why
    assert ("one thread" in place.why) == (len(place.workload) >= MANY)


@given(st.sets(st.integers(0, 300), min_size=1))
def test_names_of_cpus_are_read_back(cpus: set[int]) -> None:
    word, _, text = names(cpus).partition(" ")
    assert parse_cpus(text) == sorted(cpus)
    assert word == ("CPU" if len(cpus) == 1 else "CPUs")


def test_sharing_is_said() -> None:
    assert "share" in plan([0], {0: [0]}).why
    assert "each slows the other: CPU 1." in plan([0, 1], {0: [0, 1], 1: [0, 1]}).why


def test_this_machine_has_a_plan() -> None:
    assert placement().workload


def test_cpu_lists() -> None:
    assert parse_cpus("0-2,7\n") == [0, 1, 2, 7]
    assert parse_cpus("\n") == []
