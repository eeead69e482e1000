"""Which container a cgroup is of: by its path, and by its id while it lasts and after."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.agent import containers, inotify
from harness.agent.container import Container, of_path
from harness.agent.containers import Containers
from harness.agent.errors import AgentError
from harness.agent.origin import of_container
from tests.waiting import until

ID, OTHER = "0af1" * 16, "b2c3" * 16
UID = "2a6f4d5e-1b2c-4d3e-8f90-0123456789ab"
LOW = UID.replace("-", "_")
STATIC = "f" * 32


@pytest.mark.parametrize(
    ("path", "container"),
    [
        (f"kubepods/burstable/pod{UID}/{ID}", Container(ID, UID)),
        (f"kubepods/pod{UID}/{ID}", Container(ID, UID)),
        (
            "kubepods.slice/kubepods-burstable.slice/"
            f"kubepods-burstable-pod{LOW}.slice/cri-containerd-{ID}.scope",
            Container(ID, UID),
        ),
        (f"kubepods-pod{LOW}.slice/crio-{ID}.scope", Container(ID, UID)),
        (f"kubelet-kubepods-besteffort-pod{LOW}.slice/docker-{ID}.scope", Container(ID, UID)),
        (f"kubepods/burstable/pod{STATIC}/{ID}", Container(ID)),
        (f"kubepods/burstable/pod{STATIC}", None),
        (f"kubepods/burstable/pod{UID}/{ID}/init.scope/deeper", Container(ID, UID)),
        (f"kubepods/burstable/pod{UID}/{ID}/kubepods/pod{STATIC}/{OTHER}", Container(ID, UID)),
        (f"pod{UID}/crio-conmon-{OTHER}.scope", Container("", UID)),
        (f"pod{UID}", Container("", UID)),
        (f"system.slice/docker-{ID}.scope", Container(ID)),
        (f"docker/{ID}", Container(ID)),
        ("system.slice/nginx.service", None),
        ("runc-test", None),
        (".", None),
        (f"kubepods/burstable/pod{UID[:-1]}", None),
        (f"x{ID}", None),
    ],
)
def test_a_path_tells_container_and_pod(path: str, container: Container | None) -> None:
    assert of_path(path) == container


def test_a_container_is_the_instance_and_its_service_is_for_others_to_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.node.name=worker")
    said = of_container(Container(ID, UID))
    assert said.pop("host.name")
    assert said == {
        "container.id": ID, "k8s.pod.uid": UID, "service.instance.id": ID,
        "k8s.node.name": "worker",
    }  # fmt: skip
    assert of_container(Container("", UID))["service.instance.id"] == UID


def test_the_agent_of_a_host_without_room_for_watches_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inotify._C, "inotify_init1", lambda _: -1)
    with pytest.raises(AgentError, match=r"max_user_instances"):
        inotify.Inotify()


@pytest.fixture
def scope() -> Iterator[Path]:
    """A cgroup of one's own, where there is v2 and this user may; else what is like it."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    mounts = [line.split(" - ") for line in lines if line.split(" - ")[1].startswith("cgroup2 ")]
    if not mounts or os.geteuid() != 0:
        pytest.skip("making cgroups needs root and cgroup v2")
    made = Path(mounts[0][0].split()[4]) / f"harness-test-{os.getpid()}-containers"
    made.mkdir()
    yield made
    for folder, _, _ in os.walk(made, topdown=False):
        os.rmdir(folder)


@pytest.fixture
def follow(scope: Path) -> Iterator[Callable[..., Containers]]:
    made: list[Containers] = []

    def start(kept_seconds: float = 60.0) -> Containers:
        made.append(Containers(scope, kept_seconds))
        return made[-1]

    yield start
    for each in made:
        each.close()


def make(*parts: Path) -> int:
    for path in parts:
        path.mkdir()
    return parts[-1].stat().st_ino


def test_those_that_are_there_are_known(scope: Path, follow: Callable[..., Containers]) -> None:
    pod = scope / f"pod{UID}"
    number = make(pod, pod / ID)
    found = follow()
    assert found.find(number) == Container(ID, UID)
    assert found.find(pod.stat().st_ino) == Container("", UID)
    assert found.find(scope.stat().st_ino) is None
    assert found.find(0) is None


def test_one_that_is_gone_before_anybody_asks_is_known(
    scope: Path, follow: Callable[..., Containers]
) -> None:
    found = follow()
    pod = scope / f"pod{UID}"
    first = make(pod, pod / ID)
    assert until(lambda: first in found._known)  # by itself: nobody asks
    (pod / ID).rmdir()
    second = make(pod / OTHER, pod / OTHER / "below")
    assert until(lambda: second in found._known)
    for each in (pod / OTHER / "below", pod / OTHER, pod):
        each.rmdir()
    assert found.find(first) == Container(ID, UID)
    assert found.find(second) == Container(OTHER, UID)


def test_what_went_long_ago_is_forgotten_once(
    scope: Path, follow: Callable[..., Containers]
) -> None:
    found = follow(0.0)
    number = make(scope / ID)
    assert until(lambda: found.find(number) == Container(ID))
    assert found.forgotten() == {}
    assert found.lasts(Container(ID))
    assert found.lasts(None)
    (scope / ID).rmdir()
    gone: set[int] = set()
    assert until(lambda: bool(gone.update(found.forgotten()) or gone))
    assert gone == {number}
    assert not found.lasts(Container(ID))
    assert found.find(number) is None
    assert found.forgotten() == {}


def test_what_was_not_told_is_found_by_looking(
    scope: Path, follow: Callable[..., Containers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inotify.Inotify, "read", lambda _: [])
    found = follow()
    number = make(scope / ID)
    found.look()
    assert found.find(number) == Container(ID)


def test_it_goes_on_where_folders_cannot_be_watched(
    scope: Path, follow: Callable[..., Containers], monkeypatch: pytest.MonkeyPatch
) -> None:
    def watch(*_: object) -> int:
        raise AgentError("no room")

    monkeypatch.setattr(inotify.Inotify, "watch", watch)
    number = make(scope / ID)
    assert follow().find(number) == Container(ID)


def test_a_scope_that_is_made_anew_is_followed_again(
    scope: Path, follow: Callable[..., Containers]
) -> None:
    found = follow()
    scope.rmdir()
    make(scope)
    found.look()
    assert found.find(make(scope / ID)) == Container(ID)


def test_one_that_is_made_anew_under_its_name_is_not_forgotten(
    scope: Path, follow: Callable[..., Containers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new one may be seen before the end of the old one is read."""
    found = follow(0.0)
    make(scope / ID)
    found.look()
    (scope / ID).rmdir()
    number = make(scope / ID)
    found._came(scope / ID)  # by what was told of its beginning
    found._went(scope / ID)  # by what was told of the old one's end
    found._came(scope / ID)  # by what was told of its beginning once more
    assert number not in found.forgotten()
    assert found.find(number) == Container(ID)


DEEP = 1200  # more than Python's calls nest


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A tree of folders; it is taken away from its end, for that is how deep it is."""
    made = [tmp_path / "top"]
    made[0].mkdir()
    for _ in range(DEEP):
        made.append(made[-1] / "d")
        made[-1].mkdir()
    yield made[0]
    for each in reversed(made):
        each.rmdir()


def test_a_tree_may_be_deeper_than_calls_are(deep: Path, caplog: pytest.LogCaptureFixture) -> None:
    (deep.parent / "moved").mkdir()
    found = Containers(deep.parent / "moved")
    try:
        deep.rename(deep.parent / "moved" / ID)
        found._came(deep.parent / "moved" / ID)
        (deep.parent / "moved" / ID).rename(deep)
        assert len(found._there) == DEEP + 2
        assert list(found._known.values()).count(Container(ID)) == DEEP + 1
    finally:
        found.close()
        (deep.parent / "moved").rmdir()


def test_what_cannot_be_taken_hides_nothing_that_came_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    remember = Containers._remember
    failed: list[Path] = []

    def once(self: Containers, path: Path) -> None:
        if path.name == OTHER and not failed:
            failed.append(path)
            raise RuntimeError("once")
        remember(self, path)

    found = Containers(tmp_path)
    found._thread.close()  # else it reads one by one
    monkeypatch.setattr(Containers, "_remember", once)
    numbers = [make(tmp_path / each) for each in (OTHER, ID)]
    found._follow()
    assert failed
    assert [found._known.get(each) for each in numbers] == [Container(OTHER), Container(ID)]
    assert "looked for again" in caplog.text
    found._inotify.close()


def test_where_nothing_tells_what_comes_each_collector_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where programs tell of selected cgroups only: nobody asks for one that is not known."""
    watch, room = inotify.Inotify.watch, [False]

    def refused(self: inotify.Inotify, folder: Path) -> int | None:
        if not room[0]:
            raise AgentError("no room")
        return watch(self, folder)

    monkeypatch.setattr(inotify.Inotify, "watch", refused)
    monkeypatch.setattr(containers, "_LOOK_SECONDS", 0.0)
    found = Containers(tmp_path, 0.0)
    try:
        number = make(tmp_path / ID)
        found.forgotten()
        assert found._known[number] == Container(ID)
        room[0] = True
        found.forgotten()  # it is watched from now on
        looked = found._looked
        found.forgotten()
        assert found._looked == looked
        (tmp_path / ID).rmdir()
        assert until(lambda: number in found._gone)
    finally:
        found.close()


class Selecting:
    """Pods of which some are selected, and the map of the programs as `Selected` is asked."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.put_there: set[int] = set()

    def takes(self, uid: str) -> bool:
        return uid in self.taken

    def listen(self, changed: Callable[[set[str]], None]) -> None:
        pass

    leave = listen

    def put(self, cgroup: int, taken: bool) -> bool:
        if (cgroup in self.put_there) == taken:
            return False
        (self.put_there.add if taken else self.put_there.discard)(cgroup)
        return taken

    def close(self) -> None:
        pass


@pytest.fixture
def selecting(tmp_path: Path) -> Iterator[tuple[Selecting, Containers]]:
    pods = Selecting()
    found = Containers(tmp_path, pods=pods, apart=False)  # type: ignore[arg-type]
    found._selected = pods  # type: ignore[assignment]
    yield pods, found
    found.close()


def test_a_cgroup_that_comes_of_a_selected_pod_has_what_was_there_before_it_was_told(
    selecting: tuple[Selecting, Containers], tmp_path: Path
) -> None:
    pods, found = selecting
    pods.taken.add(UID)
    assert not found.turned()
    number = make(tmp_path / f"pod{UID}")
    assert until(lambda: number in pods.put_there)
    assert found.turned()
    assert not found.turned()


def test_selected_pods_are_not_told_apart_unless_that_was_asked(
    selecting: tuple[Selecting, Containers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pods, found = selecting
    pods.taken.add(UID)
    number = make(tmp_path / f"pod{UID}")
    assert until(lambda: number in pods.put_there)
    of = Container(ID, UID)
    for module in ("containers", "together"):
        monkeypatch.setattr(f"harness.agent.{module}.of_process", lambda _: of)
    assert not found.apart
    assert (found.find(number), found.find_process(1)) == (None, None)
    assert found.sees_process(1)
    pods.taken.clear()
    assert not found.sees_process(1)
    found._kept_seconds = 0.0
    (tmp_path / f"pod{UID}").rmdir()
    assert until(lambda: number in found._gone)
    assert found.forgotten() == {}
    assert number not in found._known
