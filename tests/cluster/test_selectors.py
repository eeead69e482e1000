"""Selected pods by a real API server: its service accounts, roles, lists and watches.

Nodes are simulated, so that no agent runs there: what one asks is asked from here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from harness.agent import kubernetes_api
from harness.agent.errors import AgentError
from harness.agent.kubernetes_api import KubernetesApi
from harness.agent.pods import Pods
from harness.linux import processes
from harness.targets.kubernetes import helm as product
from harness.targets.kubernetes import values
from harness.wire.selector import selection
from tests.cluster import programs, simulated
from tests.cluster.simulated import Simulated
from tests.waiting import until

pytestmark = pytest.mark.cluster

POD = {"containers": [{"name": "one", "image": "localhost/one:1"}]}


@pytest.fixture(scope="module")
def cluster(helm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    """Two nodes, and the account and the role of agents as the chart makes them."""
    for name in ("kubernetes", "etcd", "kwok"):
        if not programs.folder(name).exists():
            pytest.skip(f"{name} is not in the cache: `make test-cluster` builds it")
    folder = tmp_path_factory.mktemp("simulated")
    with simulated.running(folder, 2) as running:
        given = folder / "values.json"
        seen = {"namespaces": ["shop"]}
        given.write_text(
            json.dumps(values.values(values.stack("simulated"), "localhost/node:1", of_agents=seen))
        )
        argv = [helm, "template", "harness", str(product.CHART), "--kube-version=1.34.4"]
        done = processes.run([*argv, f"--values={given}"])
        kinds = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding")
        made = [each for each in yaml.safe_load_all(done.stdout) if each and each["kind"] in kinds]
        create(running, folder, *made)
        for name in ("shop", "bank"):
            running.kubectl("create", "namespace", name)
        running.kubectl("create", "serviceaccount", "other")
        yield running


def create(cluster: Simulated, folder: Path, *objects: object) -> None:
    file = folder / "objects.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    cluster.kubectl("create", f"--filename={file}")


@pytest.fixture
def account(cluster: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What a pod of the agents has of the API: its address, a token, whom to trust."""
    server = json.loads(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    parts = urlsplit(server)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(parts.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(parts.port))
    monkeypatch.setattr(kubernetes_api, "_ACCOUNT", tmp_path)
    made = cluster.kubeconfig.parent / "certs" / "apiserver.crt"
    (tmp_path / "ca.crt").write_text(made.read_text())
    (tmp_path / "token").write_text(cluster.kubectl("create", "token", "agents"))
    yield tmp_path
    cluster.kubectl("delete", "pods", "--all", "--all-namespaces", "--force", "--grace-period=0")


def make(cluster: Simulated, folder: Path, name: str, namespace: str, node: str, app: str) -> str:
    """A pod on a node; its uid."""
    of = {"name": name, "namespace": namespace, "labels": {"app": app}}
    spec = {**POD, "nodeName": node}
    create(cluster, folder, {"apiVersion": "v1", "kind": "Pod", "metadata": of, "spec": spec})
    words = ("get", "pod", name, f"--namespace={namespace}", "--output=jsonpath={.metadata.uid}")
    return cluster.kubectl(*words)


def test_pods_of_the_node_are_followed_with_the_rights_that_the_chart_gives(
    cluster: Simulated, account: Path
) -> None:
    node, other = sorted(
        cluster.kubectl("get", "nodes", "--output=jsonpath={.items[*].metadata.name}").split()
    )
    before = make(cluster, account, "before", "shop", node, "go")
    wanted = selection("shop", "", "app=go")
    assert wanted is not None
    pods = Pods(wanted, KubernetesApi("", node))
    heard: list[set[str]] = []
    pods.listen(heard.append)
    assert pods.takes(before)
    elsewhere = make(cluster, account, "elsewhere", "shop", other, "go")
    bank = make(cluster, account, "bank", "bank", node, "go")
    late = make(cluster, account, "late", "shop", node, "dns")
    cluster.kubectl("label", "pod", "late", "--namespace=shop", "--overwrite", "app=go")
    assert until(lambda: pods.takes(late))
    assert not pods.takes(elsewhere)
    assert not pods.takes(bank)
    cluster.kubectl("label", "pod", "before", "--namespace=shop", "app-")
    assert until(lambda: not pods.takes(before))
    assert heard == [{late}, {before}]
    pods.leave(heard.append)


def test_an_account_without_the_right_is_told_so(cluster: Simulated, account: Path) -> None:
    (account / "token").write_text(cluster.kubectl("create", "token", "other"))
    with pytest.raises(AgentError, match=r"cannot be read .* 403 .*forbidden"):
        KubernetesApi("", "node").pods()
