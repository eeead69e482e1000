"""Three control planes and a worker, by the playbooks: one is lost, the cluster goes on; one story.

The tests of this file need each other, in their order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import machines
from tests.cluster.engine import Engine
from tests.cluster.played import FIRST, Story, changed

pytestmark = pytest.mark.cluster

SECOND, THIRD, WORKER = "machine-2", "machine-3", "machine-4"
ALL = (FIRST, SECOND, THIRD, WORKER)
NOTHING = dict.fromkeys(ALL, 0)
# a certificate key is 64 digits; sums are, too, and say so
KEY = re.compile(r"(?<!sha256:)\b[0-9a-f]{64}\b")
TOKEN = re.compile(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b")


@pytest.fixture(scope="module")
def story(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("control-planes")
    with machines.running(docker, 4, folder) as made:
        yield Story(made, machines.files(docker), folder, control_planes=3)


def hosts(story: Story) -> dict[str, str]:
    """What each machine has in its /etc/hosts."""
    return {name: story.made.exec(name, "cat", "/etc/hosts") for name in ALL}


def addresses(story: Story, at: str = FIRST) -> set[str]:
    """Where pods find the API."""
    words = ("get", "endpointslices", "--selector=kubernetes.io/service-name=kubernetes")
    (found,) = json.loads(story.kubectl(*words, "--output=json", at=at))["items"]
    return {address for each in found["endpoints"] for address in each["addresses"]}


@pytest.fixture(scope="module")
def before(story: Story) -> dict[str, Any]:
    return {"looked": story.looked(), "hosts": hosts(story)}


def test_three_control_planes_and_a_worker_become_a_cluster(
    story: Story, before: dict[str, Any]
) -> None:
    assert before
    assert all(changed(story.site()).values())
    nodes = json.loads(story.kubectl("get", "nodes", "--output=json"))["items"]
    label = "node-role.kubernetes.io/control-plane"
    roles = {node["metadata"]["name"]: label in node["metadata"]["labels"] for node in nodes}
    assert roles == {FIRST: True, SECOND: True, THIRD: True, WORKER: False}
    words = ("--namespace=kube-system", "get", "pods", "--selector=component=etcd")
    etcd = json.loads(story.kubectl(*words, "--output=json"))["items"]
    assert {each["spec"]["nodeName"] for each in etcd} == {FIRST, SECOND, THIRD}
    assert addresses(story) == {each.address for each in story.made.all[:3]}


def test_all_of_them_are_called_by_one_name_and_this_machine_calls_an_address(
    story: Story,
) -> None:
    first = story.made.all[0].address
    kubelet = story.made.exec(WORKER, "cat", "/etc/kubernetes/kubelet.conf")
    assert "server: https://cluster-endpoint:6443" in kubelet
    assert f"server: https://{first}:6443" in (story.folder / "kubeconfig").read_text()


def test_neither_token_nor_certificate_key_is_in_the_log(story: Story) -> None:
    log = (story.folder / "ansible.log").read_text()
    assert "Have the control plane's keys handed over" in log
    assert not KEY.search(log)
    assert not TOKEN.search(log)
    assert "PRIVATE KEY" not in log
    for name in ALL:
        assert "join.yaml" not in story.made.exec(name, "ls", "/var/lib/harness-cluster")


def test_a_second_run_changes_nothing(story: Story) -> None:
    assert changed(story.site()) == NOTHING


def test_programs_of_another_version_are_no_upgrade_in_passing(
    story: Story, tmp_path: Path
) -> None:
    """By a sum that is another one; nothing is changed, and the way is named."""
    sums = (story.files / "SHA256SUMS").read_text()
    for each in story.files.iterdir():
        (tmp_path / each.name).symlink_to(each)
    (tmp_path / "SHA256SUMS").unlink()
    other = re.sub(r"^\S+(?=  kubelet$)", "0" * 64, sums, flags=re.MULTILINE)
    (tmp_path / "SHA256SUMS").write_text(other)
    told = story.site(cluster_files=str(tmp_path))["error"]
    assert "has other programs of Kubernetes than machine-" in told["what"]
    assert "--upgrade" in told["next_step"]


def test_the_cluster_goes_on_without_its_first_control_plane(story: Story) -> None:
    """Another answers, the worker finds it, and what is asked for is scheduled and started."""
    story.made.stop(FIRST)
    story.await_that("get", "--raw=/readyz", at=SECOND)
    image = (f"--image={machines.BUSYBOX}", "--image-pull-policy=IfNotPresent")
    pod = ("run", "after", *image, "--command", "--", "/bin/busybox", "sleep", "100000")
    story.await_that("get", "serviceaccount", "default", at=SECOND)
    story.kubectl(*pod, at=SECOND)
    is_ready = ("wait", "--for=condition=Ready", "pod/after", "--timeout=5s")
    story.await_that(*is_ready, at=SECOND, seconds=300)
    found = json.loads(story.kubectl("get", "pod", "after", "--output=json", at=SECOND))
    assert found["spec"]["nodeName"] == WORKER


def test_a_run_names_the_one_that_is_missing(story: Story) -> None:
    assert story.site()["error"]["what"] == f"{FIRST} cannot be reached."


def test_the_one_that_was_lost_comes_back_by_itself(story: Story) -> None:
    story.made.start(FIRST)
    own = f"--server=https://{story.made.all[0].address}:6443"  # and no other one that answers
    story.await_that(own, "get", "--raw=/readyz")
    story.await_that("wait", "--for=condition=Ready", f"node/{FIRST}", "--timeout=5s")
    assert changed(story.site()) == NOTHING
    assert addresses(story) == {each.address for each in story.made.all[:3]}


def test_reset_leaves_all_of_them_as_they_were(story: Story, before: dict[str, Any]) -> None:
    said = len((story.folder / "ansible.log").read_text())
    recap = story.play("reset.yml")
    assert {host: counts["failed"] for host, counts in recap.items()} == NOTHING
    assert "left there" not in (story.folder / "ansible.log").read_text()[said:]
    assert story.looked() == before["looked"]
    assert hosts(story) == before["hosts"]
