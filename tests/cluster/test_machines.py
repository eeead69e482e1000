"""Bare machines become a cluster by the playbooks, offline, and are bare again: one story.

The tests of this file need each other, in their order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from harness.linux import processes
from tests.cluster import machines
from tests.cluster.engine import Engine
from tests.cluster.played import FIRST, Story, changed

pytestmark = pytest.mark.cluster

SECOND, THIRD = "machine-2", "machine-3"
TOKEN = re.compile(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b")

PODS = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: kept}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 8Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec:
  nodeName: machine-2
  containers:
    - name: server
      image: IMAGE
      command: [/bin/sh, -c, "echo served >/index.html; exec /bin/busybox httpd -f -p 8080 -h /"]
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec: {selector: {app: server}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeSelector: {kubernetes.io/hostname: machine-3}
  volumes: [{name: kept, persistentVolumeClaim: {claimName: kept}}]
  containers:
    - name: client
      image: IMAGE
      volumeMounts: [{name: kept, mountPath: /kept}]
      command: [/bin/sh, -c]
      args:
        - |
          until wget -q -O /kept/answer http://server.default.svc.cluster.local/; do sleep 1; done
          cat /kept/answer
          exec sleep 100000
"""


@pytest.fixture(scope="module")
def story(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("machines")
    with machines.running(docker, 3, folder) as made:
        yield Story(made, machines.files(docker), folder)


def test_a_look_at_bare_machines_changes_nothing(story: Story) -> None:
    story.before = story.looked()
    changed(story.site(check=True))
    assert story.looked() == story.before


def test_machines_become_a_cluster(story: Story) -> None:
    assert all(changed(story.site()).values())
    nodes = json.loads(story.kubectl("get", "nodes", "--output=json"))["items"]
    assert sorted(node["metadata"]["name"] for node in nodes) == [FIRST, SECOND, THIRD]
    ready = [
        condition["status"]
        for node in nodes
        for condition in node["status"]["conditions"]
        if condition["type"] == "Ready"
    ]
    assert ready == ["True"] * 3


def test_the_kubeconfig_is_brought_here(story: Story) -> None:
    kubeconfig = story.folder / "kubeconfig"
    assert kubeconfig.stat().st_mode & 0o777 == 0o600
    engine = story.made.engine
    argv = engine.inside(["kubectl", f"--kubeconfig={kubeconfig}", "get", "--raw=/readyz"])
    assert processes.run(argv, env=engine.environment).stdout == "ok"


def test_no_secret_is_in_the_log(story: Story) -> None:
    log = (story.folder / "ansible.log").read_text()
    assert "Make a token" in log
    assert not TOKEN.search(log)
    assert "PRIVATE KEY" not in log
    assert "client-key-data" not in log
    for each in story.made.all:
        assert "join.yaml" not in story.made.exec(each.name, "ls", "/var/lib/harness-cluster")


def test_pods_reach_each_other_by_name_and_keep_what_they_write(story: Story) -> None:
    manifest = story.folder / "pods.yaml"
    manifest.write_text(PODS.replace("IMAGE", machines.BUSYBOX))
    engine = story.made.engine
    argv = ["kubectl", f"--kubeconfig={story.folder / 'kubeconfig'}", "apply", "-f", str(manifest)]
    processes.run(engine.inside(argv), env=engine.environment)
    story.await_that("exec", "client", "--", "grep", "served", "/kept/answer")


def test_a_second_run_changes_nothing(story: Story) -> None:
    assert changed(story.site()) == {FIRST: 0, SECOND: 0, THIRD: 0}
    assert changed(story.site(check=True)) == {FIRST: 0, SECOND: 0, THIRD: 0}


def test_a_machine_that_was_restarted_comes_back(story: Story) -> None:
    story.made.restart(SECOND)
    story.await_that("delete", "pod", "server", "--force")
    manifest = story.folder / "pods.yaml"
    engine = story.made.engine
    argv = ["kubectl", f"--kubeconfig={story.folder / 'kubeconfig'}", "apply", "-f", str(manifest)]
    processes.run(engine.inside(argv), env=engine.environment)
    story.await_that("wait", "--for=condition=Ready", "pod/server", "--timeout=5s")
    assert changed(story.site()) == {FIRST: 0, SECOND: 0, THIRD: 0}


def test_a_host_whose_join_was_interrupted_is_joined_by_the_next_run(story: Story) -> None:
    """As one that went down in the middle: there are files of kubeadm's, and no note at the end."""
    story.made.exec(THIRD, "rm", "/var/lib/harness-cluster/member")
    story.made.restart(THIRD)
    again = changed(story.site())
    assert again[THIRD] > 0
    assert (again[FIRST], again[SECOND]) == (0, 0)
    assert changed(story.site()) == {FIRST: 0, SECOND: 0, THIRD: 0}


def test_a_wrong_password_for_sudo_is_named(story: Story) -> None:
    script = (
        "useradd --create-home deployer && echo deployer:right | chpasswd && "
        "install -d -o deployer -m 0700 ~deployer/.ssh && "
        "install -o deployer -m 0600 /root/.ssh/authorized_keys ~deployer/.ssh/ && "
        "echo 'deployer ALL=(ALL) ALL' >/etc/sudoers.d/deployer"
    )
    story.made.exec(FIRST, "sh", "-c", script)
    lines = f"[control_plane]\n{FIRST} ansible_user=deployer ansible_become_password=wrong\n"
    told = story.site(lines=lines)["error"]
    assert told["what"].startswith("sudo on machine-1 refuses the password.")
    assert "wrong" not in (story.folder / "ansible.log").read_text()
    story.made.exec(FIRST, "sh", "-c", "userdel --remove deployer; rm /etc/sudoers.d/deployer")


def test_a_machine_that_is_off_is_named(story: Story) -> None:
    story.made.stop(SECOND)
    told = story.site()["error"]
    assert told["what"] == "machine-2 cannot be reached."
    story.made.start(SECOND)


def test_reset_leaves_the_machines_as_they_were(story: Story) -> None:
    before = (story.folder / "ansible.log").stat().st_size
    recap = story.play("reset.yml")
    assert {host: counts["failed"] for host, counts in recap.items()} == dict.fromkeys(recap, 0)
    said = (story.folder / "ansible.log").read_text()[before:]
    assert "package containerd" in said
    assert "/usr/local/bin/kubeadm" in said
    assert "left there" not in said
    assert story.looked() == story.before
    assert changed(story.play("reset.yml")) == {FIRST: 0, SECOND: 0, THIRD: 0}
