"""A part of what a cluster runs is turned in its pod, and turned back whatever happens."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.collectors import resolve
from harness.controller.nodes import Nodes
from harness.errors import CommandError, ComponentError, InputError, NeedError
from harness.targets import target
from harness.targets.kubernetes import node_pod, options
from harness.targets.kubernetes.kubectl import Cluster
from harness.wire.driving import Call
from harness.wire.subject import Option
from tests.unit.optioned import LOOK, ON, OPTION, written


@pytest.fixture
def mine(tmp_path: Path) -> str:
    return written(tmp_path)


def test_a_machine_has_none() -> None:
    for ask in (
        lambda: target("local").turn("obs/agent", OPTION, True, lambda: None),
        lambda: target("local").look("obs/agent", OPTION, lambda: None),
    ):
        with pytest.raises(InputError, match="is one of a cluster"):
            ask()


CLUSTER = Cluster("shop", "harness-evaluate")
NODE = {"metadata": {"name": "worker"}}
DAEMONSET = {
    "metadata": {"name": "agent", "namespace": "obs"},
    "spec": {"selector": {"matchLabels": {"app": "agent"}}},
}


class Store:
    """A DaemonSet's pod on the node, and the option in it."""

    def __init__(self) -> None:
        self.on, self.obeys, self.commands, self.says = True, True, list[str](), ""
        self.containers, self.fails = set[str](), False
        self.pod: dict[str, Any] = {
            "metadata": {
                "name": "agent-x", "namespace": "obs", "labels": {"app": "agent"},
                "ownerReferences": [{"name": "agent", "controller": True}],
            },
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "agent", "containerID": "containerd://abc"}],
            },
        }  # fmt: skip

    def state(self) -> str:
        return "on" if self.on else "off"

    def get(self, cluster: Cluster, *words: str) -> list[dict[str, Any]]:
        if words[0] == "pods" and "--all-namespaces" in words:
            turned = options.TURNED in self.pod["metadata"]["labels"]
            return [copy.deepcopy(self.pod)] if turned else []
        assert cluster.namespace == "obs"
        return [copy.deepcopy(self.pod)] if words[0] == "pods" else [copy.deepcopy(DAEMONSET)]

    def run(self, cluster: Cluster, *words: str, **_: Any) -> Any:
        if words[0] == "patch":
            assert words[1:3] == ("pod", "agent-x")
            for key, given in json.loads(words[4].removeprefix("--patch="))["metadata"].items():
                kept = self.pod["metadata"].setdefault(key, {})
                kept.update(given)
                for name in [name for name, value in kept.items() if value is None]:
                    del kept[name]
            return None
        assert (*words[:2], words[3]) == ("exec", "agent-x", "--")
        if self.fails:
            raise CommandError("`kubectl exec` failed.", "It is gone.", "Look.")
        self.containers.add(words[2].removeprefix("--container="))
        command = words[4:]
        self.commands.append(" ".join(command))
        if command in (OPTION.on, OPTION.off) and self.obeys:
            self.on = command == OPTION.on
        state = self.says or f"state: {self.state()}\n"
        said = "seen 7\n" if command == OPTION.seen else state
        return SimpleNamespace(stdout=said)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store()
    monkeypatch.setattr(Cluster, "get", lambda self, *words: made.get(self, *words))
    monkeypatch.setattr(Cluster, "run", lambda self, *words, **more: made.run(self, *words, **more))
    return made


def _turn(on: bool, option: Option = OPTION) -> tuple[list[str], bool]:
    return options.turn(CLUSTER, NODE, "obs/agent", option, on, lambda: None)


def test_it_is_turned_off_and_on_and_is_what_it_was(store: Store) -> None:
    before = copy.deepcopy(store.pod)
    assert _turn(False) == (["containerd://abc"], True)
    assert store.state() == "off"
    assert _turn(False) == (["containerd://abc"], False)
    assert _turn(True) == (["containerd://abc"], False)
    assert store.commands.count("tell off") == 1
    _turn(False)
    options.restore(CLUSTER, NODE, "obs/agent", lambda: None)
    assert store.state() == "on"
    assert store.pod["metadata"].pop("annotations") == {}
    assert store.pod == before
    store.commands.clear()
    options.restore(CLUSTER, NODE, "obs/agent", lambda: None)
    assert store.commands == []


def test_what_was_off_is_off_in_the_end(store: Store) -> None:
    store.on = False
    _turn(True)
    options.restore(CLUSTER, NODE, "obs/agent", lambda: None)
    assert store.state() == "off"


def test_two_options_of_one_pod_are_both_put_back(store: Store) -> None:
    """Another container of it may take the same words."""
    other = dataclasses.replace(OPTION, container="sidecar")
    _turn(False)
    _turn(False, other)
    store.commands.clear()
    options.restore(CLUSTER, NODE, "obs/agent", lambda: None)
    assert sorted(store.commands) == ["tell off", "tell on"]
    assert store.containers == {"agent", "sidecar"}


def test_what_a_killed_evaluation_turned_is_turned_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _turn(False)
    options.restore_orphans(CLUSTER, print)
    assert store.state() == "off"  # its process, this one, is there
    monkeypatch.setattr(node_pod, "is_orphan", lambda _: True)
    options.restore_orphans(CLUSTER, print)
    assert store.state() == "on"
    assert options.TURNED not in store.pod["metadata"]["labels"]


@pytest.mark.parametrize("note", ["", "[]x", '["agent"]', None])
def test_what_cannot_be_turned_back_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch, note: str | None
) -> None:
    """By a note that somebody else wrote, or by a command that fails."""
    _turn(False)
    if note is not None:
        store.pod["metadata"]["annotations"][options.UNDO] = note
    else:
        store.fails = True
    monkeypatch.setattr(node_pod, "is_orphan", lambda _: True)
    said: list[str] = []
    options.restore_orphans(CLUSTER, said.append)
    assert len(said) == 1
    assert said[0].startswith("obs/agent-x is as an evaluation left it")
    assert store.state() == "off"


def test_what_a_killed_evaluation_kept_is_what_it_was(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is off by now, and was on."""
    _turn(False)
    store.pod["metadata"]["annotations"][node_pod.OWNER] = "another"
    monkeypatch.setattr(node_pod, "is_orphan", lambda _: True)
    _turn(False)
    options.restore(CLUSTER, NODE, "obs/agent", lambda: None)
    assert store.state() == "on"


def test_what_another_evaluation_turns_is_left_to_it(store: Store) -> None:
    _turn(False)
    store.pod["metadata"]["annotations"][node_pod.OWNER] = "another"
    with pytest.raises(NeedError, match="another evaluation"):
        _turn(True)
    options.restore(CLUSTER, NODE, "obs/agent", lambda: None)
    assert store.state() == "off"


def test_what_does_not_obey_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "TURN_SECONDS", 0.0)
    store.obeys = False
    with pytest.raises(ComponentError, match=r"is not off within .* says of itself: state: on"):
        _turn(False)


def test_what_is_on_in_parts_is_turned_by_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not be put back."""
    monkeypatch.setattr(options, "SETTLED_SECONDS", 0.0)
    store.says = "state: on but for drops"
    before = copy.deepcopy(store.pod)
    with pytest.raises(ComponentError, match="is not on or off") as caught:
        _turn(False)
    assert "have all of it on or off" in caught.value.next_step
    assert store.pod == before
    assert set(store.commands) == {"tell"}


def test_what_it_saw_is_what_its_command_prints(store: Store) -> None:
    found = options.look(CLUSTER, NODE, "obs/agent", OPTION, lambda: None)
    assert found == (["containerd://abc"], "seen 7\n")
    assert options.TURNED not in store.pod["metadata"]["labels"]


def test_it_is_off_before_each_block_and_asked_for_by_the_node(mine: str) -> None:
    asked = list[object]()

    def turn(*words: Any) -> tuple[list[str], bool]:
        asked.append(words[:3])
        return ["containerd://abc"], True

    fake: Any = SimpleNamespace(turn=turn, look=lambda *_: (["containerd://abc"], "seen 7"))
    nodes: Any = Nodes(fake, lambda _: None)  # type: ignore[arg-type,return-value]
    nodes.node = lambda: SimpleNamespace(ping=lambda: None)
    nodes.clear({"mine": resolve(mine)})
    assert asked == [("obs/agent", OPTION, False)]
    there: Any = SimpleNamespace(ping=lambda: None)
    found, _ = nodes._placed(there, Call(ON))
    assert found == {"containers": ["containerd://abc"], "was": True}
    assert nodes._placed(there, Call(LOOK))[0]["seen"] == "seen 7"
