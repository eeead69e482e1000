"""Services in a cluster as a node is told of them, and what is made for an evaluation."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from harness import targets
from harness.errors import CommandError, InputError, NeedError
from harness.linux.procfs import HOST
from harness.plan import trials, workloads
from harness.targets.kubernetes import daemonsets, images, namespaces, node_pod, services
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.target import InCluster
from harness.wire.spec import Found, Spawn

CLUSTER = Cluster("kind-shop", "harness-evaluate")
SHOP = Found("shop", "", workload="bank/shop")


def pod(node: str = "worker", address: str = "10.244.1.7", name: str = "shop-1") -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "ownerReferences": [{"name": "shop-7c9f", "controller": True}],
        },
        "spec": {
            "nodeName": node,
            "containers": [
                {"name": "mesh", "ports": [{"containerPort": 15001}]},
                {"name": "shop", "ports": [{"containerPort": 9000}]},
            ],
        },
        "status": {
            "podIP": address,
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [
                {"name": "mesh", "containerID": "containerd://aaa"},
                {"name": "shop", "containerID": "containerd://bbb"},
            ],
        },
    }


REPLICASETS = [
    {"metadata": {"name": "shop-7c9f", "ownerReferences": [{"name": "shop", "controller": True}]}},
    {"metadata": {"name": "bank-1", "ownerReferences": [{"name": "bank", "controller": True}]}},
]


class Api:
    """Answers `kubectl get` from a table, whatever the namespace."""

    def __init__(self, objects: Mapping[str, list[dict[str, Any]]]) -> None:
        self._objects = objects
        self.asked: list[tuple[str, ...]] = []

    def get(self, cluster: Cluster, *words: str) -> list[dict[str, Any]]:
        self.asked.append((cluster.namespace, *words))
        if words[0] == "replicasets.apps":
            return REPLICASETS
        return self._objects.get(words[0], [])


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Any:
    def answer(**objects: list[dict[str, Any]]) -> Api:
        made = Api(objects)
        monkeypatch.setattr(Cluster, "get", lambda self, *words: made.get(self, *words))
        return made

    return answer


DEPLOYMENT = {"spec": {"selector": {"matchLabels": {"app": "shop"}}}}


def test_a_workload_that_runs_is_the_container_that_has_its_port(api) -> None:
    stranger = {**pod(), "metadata": {"name": "with-its-labels"}}
    asked = api(deployment=[DEPLOYMENT], pods=[pod("other"), stranger, pod()])
    there = services.theirs(
        CLUSTER, "worker", Found("shop", "http://pod:9000/a", workload="bank/shop")
    )
    assert there == Found("shop", "http://10.244.1.7:9000/a", container="containerd://bbb")
    assert ("bank", "pods", "--selector=app=shop") in asked.asked


def test_without_a_url_it_is_the_one_port_that_its_pod_declares(api) -> None:
    alone = pod(address="fd00::7")
    del alone["spec"]["containers"][0]["ports"]
    api(deployment=[DEPLOYMENT], pods=[alone])
    assert services.theirs(CLUSTER, "worker", SHOP) == Found(
        "shop", "http://[fd00::7]:9000/", container="containerd://bbb"
    )


def test_of_several_ports_one_is_to_be_named(api) -> None:
    api(deployment=[DEPLOYMENT], pods=[pod()])
    with pytest.raises(InputError, match="They name 15001, 9000"):
        services.theirs(CLUSTER, "worker", SHOP)


def test_a_workload_of_another_kind_is_found_too(api) -> None:
    own = pod()
    own["metadata"]["ownerReferences"][0]["name"] = "shop"
    api(daemonset=[DEPLOYMENT], pods=[own])
    url = Found("shop", "http://pod:9000/", workload="bank/shop")
    assert services.theirs(CLUSTER, "worker", url).container == "containerd://bbb"


def test_a_workload_that_is_not_there_says_what_was_looked_for(api) -> None:
    api()
    with pytest.raises(InputError, match="no workload 'shop' in the namespace 'bank'"):
        services.theirs(CLUSTER, "worker", SHOP)


def test_one_whose_pods_are_on_other_nodes_says_on_which(api) -> None:
    api(deployment=[DEPLOYMENT], pods=[pod("west"), pod("east")])
    with pytest.raises(InputError, match="Its pods are on east, west"):
        services.theirs(CLUSTER, "worker", SHOP)


def test_two_pods_on_one_node_are_two_services(api) -> None:
    api(deployment=[DEPLOYMENT], pods=[pod(), pod(name="shop-2")])
    with pytest.raises(InputError, match="2 pods of bank/shop are on the node worker"):
        services.theirs(CLUSTER, "worker", SHOP)


@pytest.mark.parametrize("given", ["shop", "a/", "/b", "a/cronjob/b", "a/b/c/d"])
def test_a_workload_that_cannot_be_read_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="NAMESPACE/NAME"):
        services.check(Found("x", "", workload=given))


def test_what_a_cluster_cannot_run_is_refused() -> None:
    with pytest.raises(InputError, match="programs run in pods"):
        services.check(Spawn("mine", ("./server",), "/", url="http://127.0.0.1:1/"))
    for name in ("java", "nodejs"):
        with pytest.raises(InputError, match=r"no Java and no Node\.js"):
            services.check(Spawn(name, (name,), "/"))


@pytest.mark.parametrize("name", sorted(services.SHIPPED))
def test_a_service_that_ships_is_a_confined_pod_on_the_node_that_listens_for_others(
    name: str,
) -> None:
    asked = trials.service(workloads.load(name))
    assert isinstance(asked, Spawn)
    made = services.deployment("x", "worker", "image:1", asked)
    spec = made["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    said = " ".join([*container["command"], *(each["value"] for each in container["env"])])
    assert "0.0.0.0" in said
    assert str(services.PORT) in said
    assert "{" not in said + container["workingDir"]
    assert spec["nodeName"] == "worker"
    assert container["securityContext"]["readOnlyRootFilesystem"]
    chosen = made["spec"]["selector"]["matchLabels"].items()
    assert chosen <= made["spec"]["template"]["metadata"]["labels"].items()


def test_what_a_killed_evaluation_of_this_host_left_is_told_from_the_rest() -> None:
    def item(*words: object) -> dict[str, Any]:
        return {"metadata": {"annotations": {node_pod.OWNER: json.dumps(words)}}}

    here, mine = socket.gethostname(), os.getpid()
    assert node_pod.is_orphan(item(here, 1 << 22, 5))
    assert node_pod.is_orphan(item(here, mine, 1))  # its number has been given again
    assert not node_pod.is_orphan(item(here, mine, HOST.started(mine)))
    assert not node_pod.is_orphan(item("elsewhere", 1 << 22, 5))
    assert not node_pod.is_orphan({"metadata": {}})


def test_a_namespace_of_others_is_not_used(api) -> None:
    api(namespace=[{"metadata": {"labels": {}}}])
    with pytest.raises(NeedError, match="did not make it"):
        namespaces.make(CLUSTER, "--namespace")


def test_the_namespace_of_a_stack_is_not_used_for_an_evaluation(api) -> None:
    """It would go at its end, with all that is in it."""
    api(namespace=[{"metadata": {"labels": {"app.kubernetes.io/managed-by": "harness"}}}])
    with pytest.raises(NeedError, match="would go with it"):
        namespaces.make(CLUSTER, "--target KIND,namespace=NAME", namespaces.EVALUATION)
    assert not namespaces.is_ours(CLUSTER, namespaces.EVALUATION)
    assert namespaces.is_ours(CLUSTER)


def test_what_cannot_be_put_back_is_named_and_the_rest_is_removed(
    api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api(nodes=[node("a")])
    removed: list[str] = []

    def refuse(_cluster: Cluster, daemonset: str) -> None:
        raise CommandError("The API is away.", daemonset, "Wait.")

    monkeypatch.setattr(InCluster, "_cluster", CLUSTER)
    monkeypatch.setattr(daemonsets, "restore", refuse)
    monkeypatch.setattr(node_pod, "remove", lambda _, *what: removed.extend(what))
    target = InCluster("kind", "")
    target._pod, target._moved = "x", {"obs/beyla", "obs/tetragon"}
    with pytest.raises(NeedError, match=r"obs/beyla is still kept off a: .*obs/tetragon") as caught:
        target.remove()
    assert removed == ["pod/x"]
    assert "harness clean --target kind,node=a" in caught.value.next_step


def test_a_target_is_read_and_kept_as_it_was_given() -> None:
    given = "existing,context=a@b:c,node=n1"
    assert targets.target(given).name == given
    assert targets.target("kind").name == "kind"
    assert "share this machine's kernel" in targets.target("kind").caution
    assert targets.target(given).caution == ""


def test_nodes_of_others_find_our_image_below_a_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "name", lambda: "localhost/harness-node:abc")
    found = InCluster("existing", "registry=registry.shop:5000/tools,context=x")
    assert found._image == "registry.shop:5000/tools/harness-node:abc"
    assert InCluster("kind", "")._image == "localhost/harness-node:abc"


@pytest.mark.parametrize("given", ["context=x", "node", "node=", "node=a,node=b", "colour=red"])
def test_a_target_that_cannot_be_read_says_where(given: str) -> None:
    with pytest.raises(InputError, match="cannot be read at"):
        InCluster("kind", given)


@pytest.mark.parametrize("secret", ["key", "a/b/c"])
def test_a_secret_to_pull_with_is_named_with_its_namespace(secret: str) -> None:
    with pytest.raises(InputError, match="pull_secret=NAMESPACE/NAME"):
        InCluster("existing", f"context=x,pull_secret={secret}")


def node(name: str, *effects: str) -> dict[str, Any]:
    taints = [{"key": "x", "effect": effect} for effect in effects]
    return {"metadata": {"name": name}, "spec": {"taints": taints}}


def test_the_first_node_that_takes_pods_is_measured(api, monkeypatch) -> None:
    api(nodes=[node("a", "NoSchedule"), node("c"), node("b", "PreferNoSchedule")])
    target = InCluster("kind", "")
    monkeypatch.setattr(InCluster, "_cluster", CLUSTER)
    assert target._place == "b"
    assert target.name == "kind,node=b"
    with pytest.raises(InputError, match="It has a, b, c"):
        _ = InCluster("kind", "node=d")._place


@pytest.mark.parametrize("given", ["local", "ssh:host"])
def test_a_machine_has_no_workloads_of_a_cluster(given: str) -> None:
    with pytest.raises(InputError, match="--target kind"):
        targets.target(given).check_service(SHOP)
