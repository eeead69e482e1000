"""What was dropped of a container's packets stays counted; who cannot tell says since when."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from harness.agent.container import Container
from harness.agent.drops import KEY, Dropped, Drops, metrics
from harness.agent.errors import AgentError
from harness.agent.together import Together

POD = Container("c" * 64, "")


class Room(dict[bytes, bytes]):
    """A map."""

    def take(self, key: bytes) -> bytes | None:
        return self.pop(key, None)


class Follower(Together):
    """Two cgroups of one container, of which one goes, then the other."""

    def __init__(self) -> None:
        self.known = {1: POD, 2: POD}

    def find(self, cgroup: int) -> Container | None:
        return self.known.get(cgroup)

    def lasts(self, container: Container | None) -> bool:
        return container is None or container in self.known.values()


@pytest.fixture
def drops() -> Drops:
    drops: Any = Drops(Follower(), wanted=True)
    drops._map, drops._reasons = Room(), {3: "tcp_csum"}
    for cgroup, number in ((1, 100), (2, 20)):
        drops._map[KEY.pack(3, 6, cgroup)] = number.to_bytes(8, "little")
    drops._map[KEY.pack(99, 17, 0)] = (3).to_bytes(8, "little")
    made: Drops = drops
    return made


def test_counters_of_a_container_only_grow_while_it_lasts(drops: Drops) -> None:
    def told() -> dict[Container | None, int]:
        return {each.container: each.number for each in drops.read()}

    follower: Any = drops._containers
    assert told() == {POD: 120, None: 3}
    for cgroup, expected in ((1, {POD: 120, None: 3}), (2, {None: 3})):
        drops.forget({cgroup: follower.known.pop(cgroup)})
        assert told() == expected


def test_each_transport_has_a_metric_and_a_reason_that_has_no_name_its_number(
    drops: Drops,
) -> None:
    (of_udp,) = metrics([each for each in drops.read() if each.container is None])
    assert of_udp.name == "udp.packets.dropped"
    (point,) = of_udp.data.data_points
    assert point.attributes == {"network.transport": "udp", "error.type": "99"}
    both = [Dropped(None, "udp", "a", 1), Dropped(None, "tcp", "b", 2)]
    assert [each.name for each in metrics(both)] == ["tcp.packets.dropped", "udp.packets.dropped"]


@pytest.mark.parametrize("release", ["5.15.0-92-generic", "6.1.0-50-amd64", "6.10.3"])
def test_a_kernel_that_does_not_tell_whose_they_were_is_named(
    drops: Drops, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release))
    with pytest.raises(AgentError, match=f"Linux {release} does not tell") as refused:
        drops.configure(SimpleNamespace())  # type: ignore[arg-type]
    assert "6.11" in refused.value.why
