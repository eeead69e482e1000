"""A cluster on machines is brought to the next minor version of Kubernetes, node by node.

kubeadm, kubelets and control plane are real; `newer` says what the version is. The tests of this
file are one story and need each other, in their order.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import machines, newer, programs
from tests.cluster.engine import Engine
from tests.cluster.played import FIRST, Story, changed

pytestmark = pytest.mark.cluster

SECOND = "machine-2"
NOTHING = {FIRST: 0, SECOND: 0}
SERVER = ("create", "deployment", "server", f"--image={machines.BUSYBOX}", "--",
          "/bin/busybox", "sleep", "100000")  # fmt: skip


@pytest.fixture(scope="module")
def story(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("upgrade")
    with machines.running(docker, 2, folder) as made:
        yield Story(made, machines.files(docker), folder)


@pytest.fixture(scope="module")
def files(docker: Engine) -> Iterator[Path]:
    """What there is of the next version."""
    with tempfile.TemporaryDirectory(prefix="images-", dir=programs.cache()) as draft:
        yield newer.files(docker, Path(draft))


def nodes(story: Story) -> dict[str, Any]:
    found = json.loads(story.kubectl("get", "nodes", "--output=json"))["items"]
    return {each["metadata"]["name"]: each for each in found}


def kubelets(story: Story) -> dict[str, str]:
    return {
        name: node["status"]["nodeInfo"]["kubeletVersion"] for name, node in nodes(story).items()
    }


def images(story: Story) -> set[str]:
    """Those of Kubernetes' own pods, by their names without the registry's."""
    words = ("--namespace=kube-system", "get", "pods", "--output=json")
    found = json.loads(story.kubectl(*words))["items"]
    names = {each["image"] for pod in found for each in pod["spec"]["containers"]}
    return {name.rpartition("/")[2] for name in names if "/kube-" in name}


def upgraded(story: Story, files: Path, version: str = newer.MINOR, **more: Any) -> Any:
    return story.play("upgrade.yml", upgrade_version=version, cluster_files=str(files), **more)


def test_a_cluster_of_the_version_before_runs_pods(story: Story, tmp_path: Path) -> None:
    changed(story.site())
    assert kubelets(story) == {FIRST: newer.OLD, SECOND: newer.OLD}
    file = newer.pause(story.made.engine, tmp_path)
    for each in story.made.all:
        story.made.engine.docker("cp", str(file), f"{each.name}:/root/pause.tar")
        script = ("ctr", "--namespace=k8s.io", "images", "import", "/root/pause.tar")
        story.made.exec(each.name, *script)
    story.kubectl(*SERVER)
    story.await_that("rollout", "status", "deployment/server", "--timeout=5s")


def test_a_version_that_is_skipped_is_refused(story: Story, files: Path) -> None:
    beyond = f"1.{int(newer.MINOR.split('.')[1]) + 1}"
    told = upgraded(story, files, beyond)["error"]
    assert told["next_step"] == f"Go to {newer.MINOR} first."
    assert kubelets(story) == {FIRST: newer.OLD, SECOND: newer.OLD}


def test_a_look_changes_nothing(story: Story, files: Path) -> None:
    changed(upgraded(story, files, check=True))
    assert kubelets(story) == {FIRST: newer.OLD, SECOND: newer.OLD}
    assert not any("unschedulable" in node["spec"] for node in nodes(story).values())


def test_each_node_is_brought_to_the_next_version(story: Story, files: Path) -> None:
    """The control plane before the worker; pods are back, and none is kept away."""
    before = len((story.folder / "ansible.log").read_text())
    assert all(changed(upgraded(story, files)).values())
    assert kubelets(story) == {FIRST: newer.NEW, SECOND: newer.NEW}
    said = (story.folder / "ansible.log").read_text()[before:]
    told = rf'ok: \[(\S+)\] => \{{\s+"msg": "is at {re.escape(newer.NEW)}"'
    first, second = re.finditer(told, said)
    assert (first[1], second[1]) == (FIRST, SECOND)
    begun = said.index("PLAY [Control planes")
    assert f"changed: [{SECOND}]" in said[:begun]  # it has the images by then
    assert f"changed: [{SECOND}]" not in said[begun : first.start()]
    version = json.loads(story.kubectl("version", "--output=json"))
    assert version["serverVersion"]["gitVersion"] == newer.NEW
    proxies = ("--namespace=kube-system", "rollout", "status", "daemonset/kube-proxy")
    story.await_that(*proxies, "--timeout=5s")
    names = ("apiserver", "controller-manager", "scheduler", "proxy")
    assert images(story) == {f"kube-{name}:{newer.NEW}" for name in names}
    assert not any("unschedulable" in node["spec"] for node in nodes(story).values())
    story.await_that("rollout", "status", "deployment/server", "--timeout=5s")


def test_again_nothing_is_changed(story: Story, files: Path) -> None:
    assert changed(upgraded(story, files)) == NOTHING
    assert changed(story.site(cluster_files=str(files))) == NOTHING


def test_it_does_not_go_back(story: Story) -> None:
    assert "other programs of Kubernetes" in story.site()["error"]["what"]
    told = upgraded(story, story.files, ".".join(newer.OLD[1:].split(".")[:2]))["error"]
    assert "Kubernetes does not go back" in told["why"]
    assert kubelets(story) == {FIRST: newer.NEW, SECOND: newer.NEW}
