"""Whose cluster a host is of, decided by the playbooks' own roles: what would undo one is refused.

Hosts are this machine with an /etc and notes of their own; kubeadm and kubectl are played.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import NeedError
from harness.linux import processes
from harness.targets.vm import ansible
from tests.cases import apart
from tests.cases.placed import put

ROLES = ansible.PLAYBOOKS / "roles"
HOSTS = ("zero", "one", "two")
KUBEADM = """#!/bin/sh
place=/etc/kubernetes
case "$*" in
version*) echo v1.34.4; exit ;;
'token create'*)
    cp $place/pki/ca.crt FOLDER/joined
    words='--token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:5ec0'
    echo "kubeadm join 192.0.2.11:6443 $words"
    exit ;;
'init phase'*) echo 0123abcd; exit ;;
esac
echo "$(hostname): $1" >>FOLDER/done
case $1 in
reset) rm -rf $place; exit ;;
esac
mkdir -p $place/pki $place/manifests
case $1 in
init) hostname >$place/pki/ca.crt ;;
join) cp FOLDER/joined $place/pki/ca.crt ;;
esac
touch $place/kubelet.conf
if [ $1 = init ] || grep -q controlPlane: FOLDER/$(hostname)/state/join.yaml; then
    touch $place/admin.conf $place/manifests/etcd.yaml $place/manifests/kube-apiserver.yaml
fi
"""
KUBECTL = """#!/bin/sh
case " $* " in
*' wait '* | *' rollout '*) echo "$*" >>FOLDER/waited ;;
*' get nodes '*) for each in zero one two; do echo "node/$each"; done ;;
esac
"""
FACTS = {"ansible_nodename": "{{ inventory_hostname }}", "cacheable": True}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to mount")


@dataclass(frozen=True)
class Hosts:
    """Three of them, and what was done there, in `folder`."""

    folder: Path
    told: dict[str, dict[str, str]]

    def play(
        self, *control_planes: str, worker: tuple[str, ...] = (), limit: tuple[str, ...] = ()
    ) -> dict[str, int]:
        """How many tasks changed something on each; these are the parts of site.yml."""
        common = {
            "gather_facts": False,
            "environment": {"PATH": f"{self.folder}/there:/usr/sbin:/usr/bin:/sbin:/bin"},
            "pre_tasks": [{"ansible.builtin.set_fact": FACTS}],
        }  # fmt: skip
        claims = {"ansible.builtin.set_fact": {"cluster_claim": {"stdout": ""}}}
        plays = [
            {"hosts": "all", "gather_facts": False, "tasks": [claims]},
            {"hosts": "control_plane", "serial": 1, "roles": ["control_plane"], **common},
            {"hosts": "worker", "any_errors_fatal": True, "roles": ["worker"], **common},
            {"hosts": "control_plane[0]", "roles": ["ready"], **common},
        ]
        groups = {"control_plane": control_planes, "worker": worker}
        inventory = {
            role: {"hosts": {name: self.told[name] for name in of}} for role, of in groups.items()
        }
        given = {
            "cluster_state": str(self.folder / "state"), "cluster_node_address": "192.0.2.11",
            "cluster_is_container": False,
        }  # fmt: skip
        book, hosts, log = (self.folder / each for each in ("book.json", "hosts.json", "log"))
        book.write_text(json.dumps(plays))
        hosts.write_text(json.dumps(inventory))
        try:
            recap = ansible.play(str(book), hosts, given, log, print, limit=limit)
        finally:
            print(log.read_text()[-6000:])
        return {name: counts.changed for name, counts in recap.items()}

    @property
    def done(self) -> list[str]:
        """What kubeadm did since the last call, in its order."""
        file = self.folder / "done"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    def switch_off(self, name: str) -> None:
        """From now on ssh to this host fails."""
        put(self.folder, "ssh", "#!/bin/sh\necho No route to host >&2\nexit 255\n")
        self.told[name].update(
            ansible_connection="ssh", ansible_ssh_executable=f"{self.folder}/ssh"
        )

    @property
    def waited(self) -> list[str]:
        """What was waited for by kubectl in the last run, the nodes' part first."""
        lines = (self.folder / "waited").read_text().splitlines()
        return [line.partition(" wait ")[2] or line for line in lines[-3:]]

    def cluster(self, name: str) -> str:
        """The one whose certificate a host has."""
        return (self.folder / name / "etc/kubernetes/pki/ca.crt").read_text().strip()

    def refused(self, *control_planes: str, worker: tuple[str, ...] = ()) -> NeedError:
        """By which error; nothing was done anywhere."""
        with pytest.raises(NeedError) as caught:
            self.play(*control_planes, worker=worker)
        assert self.done == []
        assert caught.value.why
        assert "playbooks/reset.yml" in caught.value.next_step
        return caught.value


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    done = processes.run(["unshare", "--mount", "--uts", "true"], check=False)
    if done.returncode:
        pytest.skip(f"no namespaces here: {done.stderr.strip()}")
    monkeypatch.setenv("ANSIBLE_ROLES_PATH", str(ROLES))
    (tmp_path / "state").mkdir()
    told = {name: apart.host(tmp_path, name, {f"{tmp_path}/state": "state"}) for name in HOSTS}
    put(tmp_path, "there/kubeadm", KUBEADM)
    put(tmp_path, "there/kubectl", KUBECTL)
    put(tmp_path, "there/pkill", "#!/bin/sh\nexit 1\n")
    return Hosts(tmp_path, told)


def test_hosts_become_a_cluster_and_a_second_time_nothing_is_done(hosts: Hosts) -> None:
    hosts.play("one", worker=("two",))
    assert hosts.done == ["one: init", "two: join"]
    assert hosts.play("one", worker=("two",)) == {"one": 0, "two": 0}
    assert hosts.done == []


def test_a_host_that_comes_first_by_now_begins_no_second_cluster(hosts: Hosts) -> None:
    """As one that was written above the others, where no group says who the control plane is."""
    hosts.play("one", worker=("two",))
    assert hosts.done
    error = hosts.refused("zero", worker=("one", "two"))
    assert error.what == "zero is the first control plane, and has no cluster; there is one on one."
    assert "Name the control plane first that has it, and zero after it" in error.next_step
    assert hosts.refused("two", worker=("one",)).what.endswith("there is one on one.")
    assert hosts.refused("zero", "one", "two").what.endswith("there is one on one.")


def test_a_worker_that_has_a_copy_of_the_way_in_has_no_cluster(hosts: Hosts) -> None:
    """As people copy it, to use kubectl there."""
    hosts.play("one", worker=("two",))
    (hosts.folder / "two/etc/kubernetes/admin.conf").touch()
    assert hosts.done
    hosts.play("zero", worker=("two",))
    assert hosts.done == ["zero: init", "two: reset", "two: join"]


def test_a_control_plane_that_was_finished_does_not_join_another_cluster(hosts: Hosts) -> None:
    hosts.play("zero")
    hosts.play("one")
    assert hosts.done == ["zero: init", "one: init"]
    error = hosts.refused("zero", worker=("one",))
    assert error.what.startswith("one is to join the cluster of zero, and is a control plane")
    assert hosts.cluster("one") == "one"


def test_a_further_control_plane_of_another_cluster_is_no_member_of_this_one(hosts: Hosts) -> None:
    hosts.play("zero")
    hosts.play("one")
    assert hosts.done
    error = hosts.refused("zero", "one", "two")
    assert error.what.startswith("one is a control plane already, and not of the cluster that zero")


def test_a_further_control_plane_whose_way_in_is_missing_is_not_undone(hosts: Hosts) -> None:
    hosts.play("zero", "one", "two")
    assert hosts.done == ["zero: init", "one: join", "two: join"]
    (hosts.folder / "two/etc/kubernetes/admin.conf").unlink()
    assert hosts.refused("zero", "one", "two").what.startswith("two is to join the cluster of zero")


def test_a_worker_of_another_cluster_leaves_that_and_joins(hosts: Hosts) -> None:
    hosts.play("one", worker=("two",))
    hosts.play("zero")
    assert hosts.done
    hosts.play("zero", worker=("two",))
    assert hosts.done == ["two: reset", "two: join"]
    assert hosts.cluster("two") == "zero"


def test_what_an_interrupted_join_left_is_taken_back(hosts: Hosts) -> None:
    hosts.play("zero", "one", "two")
    (hosts.folder / "two/state/member").unlink()
    assert hosts.done
    hosts.play("zero", "one", "two")
    assert hosts.done == ["two: reset", "two: join"]
    assert hosts.play("zero", "one", "two") == {"zero": 0, "one": 0, "two": 0}


def test_a_worker_that_is_left_out_may_be_off(hosts: Hosts) -> None:
    """Also where the cluster begins, which asks all hosts that answer whether they have one."""
    hosts.switch_off("two")
    hosts.play("one", worker=("two",), limit=("one",))
    assert hosts.done == ["one: init"]
    nodes, names, _ = hosts.waited
    assert nodes == "--for=condition=Ready node/one --timeout=300s"
    assert names == "--for=condition=Available deployment/coredns --timeout=300s"
    assert hosts.play("one", worker=("zero", "two"), limit=("one", "zero"))["zero"] > 0
    assert hosts.done == ["zero: join"]
    assert hosts.waited[0] == "--for=condition=Ready node/one node/zero --timeout=300s"


def test_a_host_that_is_left_out_and_has_a_cluster_is_seen_if_it_answers(hosts: Hosts) -> None:
    hosts.play("one", worker=("two",))
    assert hosts.done
    assert hosts.waited[0] == "--for=condition=Ready nodes --all --timeout=300s"
    with pytest.raises(NeedError, match="there is one on one"):
        hosts.play("zero", worker=("one", "two"), limit=("zero",))
    assert hosts.done == []


def test_a_host_that_is_not_left_out_and_is_lost_ends_it_before_a_cluster_begins(
    hosts: Hosts,
) -> None:
    hosts.switch_off("two")
    with pytest.raises(NeedError, match=r"two cannot be reached any more"):
        hosts.play("one", worker=("two",))
    assert hosts.done == []
