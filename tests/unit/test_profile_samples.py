"""Samples are counted by container and executable: few series, and none of what is gone."""

from __future__ import annotations

import pytest

from harness.agent import origin
from harness.agent.container import Container
from harness.agent.profile_samples import Samples, labels
from harness.agent.telemetry import Metric, Point, Sum

ONE, OTHER = Container("0af1" * 16, "2a6f"), Container("b2c3" * 16)


def points(told: list[Metric]) -> list[Point]:
    (metric,) = told
    assert isinstance(metric.data, Sum)
    return list(metric.data.data_points)


def counted(told: list[Metric]) -> dict[object, float]:
    return {each.attributes.get("process.executable.name"): each.value for each in points(told)}


def test_each_container_has_its_own_and_none_has_the_rest() -> None:
    samples = Samples()
    for container, number in ((ONE, 3), (OTHER, 5), (ONE, 4)):
        samples.add(container, "go", number)
    samples.add(None, "sh", 2)
    own, contained = samples.metrics()
    assert counted(own) == {"sh": 2}
    told = {of: counted(each) for of, each in contained.items()}
    assert told == {ONE: {"go": 7}, OTHER: {"go": 5}}


def test_nothing_is_told_of_no_samples() -> None:
    assert Samples().metrics() == ([], {})


def test_many_executables_of_one_container_leave_the_others_alone() -> None:
    samples = Samples()
    for number in range(100):
        samples.add(ONE, f"program-{number}", 1)
    samples.add(OTHER, "go", 1)
    _, contained = samples.metrics()
    crowded = points(contained[ONE])
    assert len(crowded) == 65
    rest = [each.value for each in crowded if "otel.metric.overflow" in each.attributes]
    assert rest == [36]
    assert counted(contained[OTHER]) == {"go": 1}


def test_a_container_is_forgotten_with_its_last_cgroup() -> None:
    samples = Samples()
    for container in (ONE, OTHER, None):
        samples.add(container, "go", 1)
    samples.forget([ONE, OTHER, None], lambda each: each in (OTHER, None))
    own, contained = samples.metrics()
    assert counted(own) == {"go": 1}
    assert set(contained) == {OTHER}


def test_labels_are_what_other_telemetry_says_of_a_container(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.node.name=worker")
    labels.cache_clear()
    try:
        found = dict(labels(ONE))
    finally:
        labels.cache_clear()
    assert found == origin.of_container(ONE)
    assert (found["k8s.pod.uid"], found["k8s.node.name"]) == ("2a6f", "worker")
    assert labels(None) == ()
