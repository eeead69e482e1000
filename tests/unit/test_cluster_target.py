"""Which cluster is meant, what kind is told, what is checked; with a kubectl of the test's own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.errors import CommandError, ComponentError, InputError, NeedError
from harness.targets.kubernetes import bare, chosen, helm, images, node_mounts, preflight, rollout
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kind import Kind, Wanted
from harness.targets.kubernetes.kubectl import Cluster


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Puts a shell script of this name before everything else on PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def put(name: str, script: str) -> None:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return put


def test_the_only_context_is_taken(program) -> None:
    program("kubectl", "echo shop")
    assert preflight.context("", "") == "shop"


def test_of_several_contexts_one_must_be_named(program) -> None:
    program("kubectl", "printf 'shop\\nbank\\n'")
    with pytest.raises(InputError, match="Name one: --context"):
        preflight.context("", "")
    assert preflight.context("", "bank") == "bank"


def test_a_context_that_is_not_there_is_refused(program) -> None:
    program("kubectl", "echo shop")
    with pytest.raises(InputError, match="There are: shop"):
        preflight.context("", "bank")


@pytest.mark.parametrize(
    "said",
    [
        "Unable to connect to the server: net/http: TLS handshake timeout",
        "The connection to the server 127.0.0.1:1 was refused - did you specify the right host?",
    ],
)
def test_an_api_that_is_silent_is_called_so_whatever_was_asked(program, said: str) -> None:
    program("kubectl", f"echo '{said}' >&2; exit 1")
    program("helm", f"echo 'Error: Kubernetes cluster unreachable: {said}' >&2; exit 1")
    for ask in (lambda: Cluster("shop", "harness").get("nodes"),
                lambda: helm.state(Cluster("shop", "harness"))):  # fmt: skip
        with pytest.raises(CommandError, match=r"^The cluster's API does not answer") as found:
            ask()
        assert said in found.value.why
    program("kubectl", "echo forbidden >&2; exit 1")
    with pytest.raises(CommandError, match="`kubectl get nodes` failed"):
        Cluster("shop", "harness").get("nodes")


def test_a_cluster_that_does_not_answer_is_one_sentence(program) -> None:
    program("kubectl", "echo connection refused >&2; exit 1")
    with pytest.raises(NeedError, match="connection refused"):
        preflight.require(preflight.cluster(Cluster("shop", "harness"), "x86_64"))


NODE = {
    "metadata": {"name": "worker"},
    "status": {
        "nodeInfo": {"operatingSystem": "linux", "architecture": "arm64", "kernelVersion": "6.1"},
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}


def test_what_is_not_met_is_told_with_its_hints(program) -> None:
    version = json.dumps({"serverVersion": {"major": "1", "minor": "26+", "gitVersion": "v1.26"}})
    program(
        "kubectl",
        f"""case "$*" in
*version*) echo '{version}';;
*"can-i create daemonsets.apps"*) echo no; exit 1;;
*"can-i list pods --all-namespaces"*) echo no; exit 1;;
*can-i*) echo yes;;
*"get nodes"*) echo '{json.dumps({"items": [NODE]})}';;
esac""",
    )
    with pytest.raises(NeedError) as caught:
        preflight.require(preflight.cluster(Cluster("shop", "harness"), "x86_64"))
    assert "1.27 or later (v1.26)" in str(caught.value)
    assert "may create daemonsets.apps" in str(caught.value)
    assert "Linux on amd64 (linux/arm64, kernel 6.1)" in str(caught.value)
    assert "may list pods in all namespaces" in str(caught.value)
    assert "Ask for a role that may create daemonsets.apps in the namespace harness" in (
        caught.value.next_step
    )
    assert "Ask for a role that may list pods in the whole cluster" in caught.value.next_step


@pytest.mark.parametrize(
    ("verb", "resource", "where"),
    [
        ("patch", "namespaces", ""),
        ("create", "pods", ""),
        ("patch", "pods", ""),
        ("delete", "pods", ""),
        ("get", "pods", " --all-namespaces"),
    ],
)
def test_a_right_that_up_needs_is_asked_before(
    program, verb: str, resource: str, where: str
) -> None:
    """Who may make no pods was told that the cluster admits no privileged ones."""
    version = json.dumps({"serverVersion": {"major": "1", "minor": "34", "gitVersion": "v1.34"}})
    program(
        "kubectl",
        f"""case "$*" in
*version*) echo '{version}';;
*"can-i {verb} {resource}{where}") echo no; exit 1;;
*can-i*) echo yes;;
*) echo '{{"items": []}}';;
esac""",
    )
    with pytest.raises(NeedError, match=f"Not met: may {verb} {resource}") as caught:
        preflight.require(preflight.cluster(Cluster("shop", "harness"), "x86_64"))
    assert f"Ask for a role that may {verb} {resource} in" in caught.value.next_step


def test_what_is_in_no_namespace_is_known_by_its_release_and_goes_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def role(name: str, namespace: str) -> dict[str, Any]:
        said = {"meta.helm.sh/release-namespace": namespace}
        return {"kind": "ClusterRole", "metadata": {"name": name, "annotations": said}}

    others = {"kind": "ClusterRole", "metadata": {"name": "somebody's"}}
    asked: list[tuple[str, ...]] = []
    found = [role("harness-harness-otelcol", "harness"), role("harness-b-otelcol", "b"), others]
    monkeypatch.setattr(Cluster, "get", lambda _, *words: asked.append(words) or found)
    told: list[tuple[str, ...]] = []
    monkeypatch.setattr(Cluster, "run", lambda _, *words: told.append(words))
    said = rollout._widely_removed(Cluster("shop", "harness"))
    assert said == ["ClusterRole harness-harness-otelcol was deleted."]
    assert told == [("delete", "ClusterRole", "harness-harness-otelcol", "--ignore-not-found")]
    assert "app.kubernetes.io/instance in (harness)" in asked[0][1]


def test_who_may_not_look_outside_of_a_namespace_may_take_it_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object) -> None:
        raise CommandError("It failed.", "clusterroles is forbidden")

    monkeypatch.setattr(Cluster, "get", refused)
    (said,) = rollout._widely_removed(Cluster("shop", "harness"))
    assert "could not be seen: clusterroles is forbidden" in said


def test_one_node_is_the_control_plane(tmp_path: Path) -> None:
    made: Any = Kind("shop", tmp_path).configuration(Wanted("shop", 3))
    assert [each["role"] for each in made["nodes"]] == ["control-plane", "worker", "worker"]


def test_a_cluster_of_somebody_else_is_left_alone(program, tmp_path: Path) -> None:
    program("kind", 'test "$1 $2" = "get clusters" && echo shop || echo "$@" >>"$0.done"')
    with pytest.raises(NeedError, match="did not make"):
        Kind("shop", tmp_path / "home").create(Wanted("shop"), print)
    assert not (tmp_path / "kind.done").exists()


def test_what_cannot_be_finished_is_deleted_again(program, tmp_path: Path) -> None:
    program(
        "kind",
        'echo "$@" >>"$0.done"; test "$1" != create || { echo no room >&2; exit 1; }',
    )
    with pytest.raises(ComponentError, match="no room"):
        Kind("shop", tmp_path / "home").create(Wanted("shop"), print)
    assert "delete cluster --name shop" in (tmp_path / "kind.done").read_text()
    assert not (tmp_path / "home").exists()


def test_what_cannot_be_finished_is_kept_if_asked(program, tmp_path: Path) -> None:
    program("kind", 'echo "$@" >>"$0.done"; test "$1" != create || exit 1')
    with pytest.raises(ComponentError, match="It is kept"):
        Kind("shop", tmp_path / "home").create(Wanted("shop"), print, keep=True)
    assert "delete" not in (tmp_path / "kind.done").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options("kind", context="shop"), "--context does not go with --target kind"),
        (Options("kind", kubeconfig="x"), "--kubeconfig does not go with --target kind"),
        (Options("existing", nodes=3), "--nodes does not go with --target existing"),
        (Options("existing", image="x"), "--image does not go with --target existing"),
        (Options("existing", keep=True), "--keep does not go with --target existing"),
        (Options("vm", nodes=3), "--nodes does not go with --target vm"),
    ],
)
def test_what_a_target_would_not_look_at_is_refused(options: Options, said: str) -> None:
    for ask in (lambda: rollout.up(options, print), lambda: rollout.down(options, print)):
        with pytest.raises(InputError, match=said):
            ask()


def test_what_was_said_of_machines_is_none_of_the_cluster_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    chosen.home("harness", "vm").mkdir(parents=True)
    (chosen.home("harness", "vm") / "kubeconfig").touch()
    made = bare.Machines(create=3)
    chosen.check(chosen.on_machines(Options("vm", image="debian", keep=True, machines=made)))


def test_other_nodes_than_a_cluster_has_are_refused(
    program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(chosen, "require_tools", lambda _: None)
    monkeypatch.setattr(images, "name", lambda: "localhost/node:1")
    monkeypatch.setattr(node_mounts, "put", lambda _: None)
    program("kind", 'test "$1 $2" = "get clusters" && cat "$0.made"; touch "$0.made"')
    program("kubectl", "echo NotFound >&2; exit 1")
    (tmp_path / "kind.made").touch()
    own = Kind("shop", chosen.home("shop"))
    own.create(Wanted("shop", 3, "kindest/node:v1.34.0"), print)
    (tmp_path / "kind.made").write_text("shop\n")
    reached: list[Options] = []

    def install(asked: Options, *_: Any) -> Any:
        reached.append(asked)

    def up(**said: Any) -> None:
        rollout.up(Options("kind", "shop", **said), print, install)

    for given, said in (
        ({"nodes": 5}, r"--nodes 5 \(it was made of 3\)"),
        ({"image": "kindest/node:v1.35.0"}, r"made of .*kindest/node:v1\.34\.0\)"),
    ):
        with pytest.raises(InputError, match=f"shop is there already, without .*{said}"):
            up(**given)
    assert not reached
    up()
    up(nodes=3, image="kindest/node:v1.34.0")
    (own.home / "created.json").write_text('{"nodes": 3}')  # as it was noted before
    up(image="kindest/node:v1.35.0")
    assert len(reached) == 3


def test_two_at_once_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    options = Options("kind")
    with chosen.alone(options), pytest.raises(NeedError, match="at work"):
        rollout.down(options, print)
    assert not list(tmp_path.iterdir())


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(InputError, match="local, kind, existing or vm"):
        rollout.up(Options("moon"), print)


def test_a_plan_changes_nothing_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(images, "name", lambda: "localhost/node:1")
    found = rollout.plan(Options("kind", nodes=2))
    assert len(found["cluster"]["nodes"]) == 2
    assert "localhost/node:1" in found["images"]
    assert not [check for check in found["checks"] if check["ok"]]
    assert not list(tmp_path.iterdir())
