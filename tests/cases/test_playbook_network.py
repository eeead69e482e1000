"""Cilium as the network of a cluster, played here with programs that stand in for helm and kubectl.

helm is on the machine that Ansible runs on, kubectl and kubeadm on the host, which is this one too.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.targets.vm import ansible
from tests.cases.placed import put
from tests.cases.test_production_values import KEYS, knows, leaves

ROLES = ansible.PLAYBOOKS / "roles"
HELM = """#!/bin/sh
printf '%s\\n' "$*" >>FOLDER/asked
case $1 in
show) [ ! -e FOLDER/away ] || { echo 'Error: no such host' >&2; exit 1; } ;;
template) cat >FOLDER/values; echo 'kind: ConfigMap'; echo 'data:'; cat FOLDER/values ;;
esac
"""
KUBECTL = """#!/bin/sh
for file; do :; done
file=${file#--filename=}
case " $* " in *' diff '*) cmp -s "$file" FOLDER/applied; exit $(($? > 0)) ;; esac
cp "$file" FOLDER/applied
echo 'daemonset.apps/cilium configured' # also of what is the same: its chart has what is empty
"""
KUBEADM = "#!/bin/sh\necho v1.34.4\n"
FINDMNT = "#!/bin/sh\ncat FOLDER/propagation\n"
INSTALL = {"gather_facts": False, "roles": ["network"]}
REFUSE = {
    "gather_subset": ["!all", "!min", "platform"],
    "tasks": [{"ansible.builtin.include_role": {"name": "host", "tasks_from": "network"}}],
}


@dataclass(frozen=True)
class Host:
    """This machine as a host, whose notes and programs are in `folder`."""

    folder: Path

    @property
    def notes(self) -> Path:
        return self.folder / "state"

    def play(self, tasks: dict[str, Any], *, check: bool = False, **more: Any) -> int:
        """How many tasks changed something."""
        play = {"hosts": "control_plane", **tasks}
        play["environment"] = {"PATH": f"{self.folder}/there:/usr/bin:/bin"}
        book, inventory = self.folder / "book.json", self.folder / "hosts.json"
        book.write_text(json.dumps([play]))
        host = {
            "ansible_connection": "local", "cluster_state": str(self.notes),
            "ansible_python_interpreter": str(Path(sys.executable).resolve()),
        }  # fmt: skip
        inventory.write_text(json.dumps({"control_plane": {"hosts": {"alpha": host}}}))
        variables = {"cluster_network": "cilium", **more}
        log = self.folder / "log"
        try:
            found = ansible.play(str(book), inventory, variables, log, print, check=check)
        finally:
            print(log.read_text()[-6000:])
        return found["alpha"].changed

    def refused(self, *, member: bool = False, **more: Any) -> HarnessError | None:
        """What it is refused by, if it is: `member` says whether it is a node already."""
        there = [False, False, False, member]
        told = {"results": [{"stat": {"exists": each}} for each in there]}
        try:
            assert self.play(REFUSE, host_there=told, **more) == 0
        except HarnessError as error:
            return error
        return None

    @property
    def asked(self) -> list[str]:
        """What helm was asked since the last call."""
        file = self.folder / "asked"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    @property
    def values(self) -> Any:
        """What helm was given last."""
        return json.loads((self.folder / "values").read_text())

    def files(self, chart: bytes) -> dict[str, Any]:
        """A folder of files with the sum of a chart, and `chart` in its place."""
        place = self.folder / "files"
        (place / "charts").mkdir(parents=True, exist_ok=True)
        (place / "charts" / "cilium-9.8.7.tgz").write_bytes(chart)
        line = f"{hashlib.sha256(b'a chart').hexdigest()}  charts/cilium-9.8.7.tgz\n"
        (place / "SHA256SUMS").write_text(f"{'0' * 64}  kubeadm\n{line}")
        given = {"cluster_source": "files", "cluster_files": str(place)}
        return {**given, "cluster_cilium_version": "9.8.7"}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    made.notes.mkdir()
    put(tmp_path, "here/helm", HELM)
    put(tmp_path, "there/kubectl", KUBECTL)
    put(tmp_path, "there/kubeadm", KUBEADM)
    put(tmp_path, "there/findmnt", FINDMNT)
    (tmp_path / "propagation").write_text("shared\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/here:{os.environ['PATH']}")
    monkeypatch.setenv("ANSIBLE_ROLES_PATH", str(ROLES))
    return made


def test_its_chart_is_rendered_here_and_a_second_run_changes_nothing(host: Host) -> None:
    assert host.play(INSTALL, check=True, cluster_cilium_version="9.8.7") == 0
    assert host.asked == []
    assert not (host.folder / "applied").exists()
    assert host.play(INSTALL, cluster_cilium_version="9.8.7") == 2
    place = "cilium --repo=https://helm.cilium.io --version=9.8.7"
    words = "--namespace=kube-system --kube-version=v1.34.4 --values=-"
    assert host.asked == [f"template cilium {place} {words}"]
    assert (host.folder / "applied").read_text() == (host.notes / "cilium.yaml").read_text()
    assert (host.notes / "cilium.yaml").stat().st_mode & 0o777 == 0o600
    assert host.play(INSTALL, cluster_cilium_version="9.8.7") == 0
    assert host.play(INSTALL, check=True, cluster_cilium_version="9.8.7") == 0


def test_its_chart_is_told_what_this_cluster_is_and_what_you_say(host: Host) -> None:
    host.play(INSTALL)
    told = host.values
    assert told["kubeProxyReplacement"] == "false"
    assert told["ipam"] == {"mode": "kubernetes"}
    assert told["operator"] == {"replicas": 1, "image": {}}
    assert told["image"] == {}  # as the chart has it: by digests
    assert told["hubble"]["enabled"] is False
    assert host.play(INSTALL, cluster_cilium_values={"hubble": {"enabled": True}}) == 2
    hubble = {"enabled": True, "listenAddress": "", "tls": {"enabled": False}}
    assert host.values == {**told, "hubble": hubble}


def test_images_from_files_are_asked_for_by_their_tags_and_the_chart_knows_each_key(
    host: Host,
) -> None:
    given = host.files(b"a chart")
    host.play(INSTALL, **given)
    assert host.asked[0].startswith(f"template cilium {given['cluster_files']}/charts/cilium-9.8.7")
    told = host.values
    assert told["image"] == {"useDigest": False}
    assert told["operator"]["image"] == {"useDigest": False}
    keys = set((KEYS / "cilium.keys").read_text().split())
    assert ["/".join(path) for path in leaves(told) if not knows(keys, path)] == []


def test_a_host_that_can_have_it_is_not_refused(host: Host) -> None:
    assert host.refused(cluster_cilium_version="9.8.7") is None
    place = "cilium --repo=https://helm.cilium.io --version=9.8.7"
    assert host.asked == ["version --short", f"show chart {place}"]
    assert host.refused(**host.files(b"a chart")) is None


def said(error: HarnessError | None) -> str:
    """What it says, why and what to do."""
    assert error is not None
    assert error.why
    assert error.next_step
    return f"{error.what} {error.why} {error.next_step}"


def test_what_is_no_network_is_refused(host: Host) -> None:
    assert "There is no network calico" in said(host.refused(cluster_network="calico"))


def test_a_network_is_not_changed_under_pods(host: Host) -> None:
    """Not that of a node, and not that which a run had begun with."""
    assert "was made without Cilium" in said(host.refused(member=True))
    (host.notes / "cilium").touch()
    assert host.refused(member=True) is None
    assert "was made with Cilium" in said(host.refused(cluster_network="flannel"))
    assert host.refused(member=True, cluster_network="none") is None


def test_other_networks_ask_nothing_of_helm(host: Host) -> None:
    (host.folder / "propagation").write_text("private\n")
    assert host.refused(member=True, cluster_network="flannel") is None
    assert host.asked == []


def test_a_kernel_that_is_too_old_is_refused(host: Host) -> None:
    assert "Cilium asks for 99.0" in said(host.refused(host_cilium_kernel="99.0"))
    assert host.asked == []


def test_mounts_that_pods_do_not_see_are_refused(host: Host) -> None:
    (host.folder / "propagation").write_text("private\n")
    assert "mounts that its pods do not see" in said(host.refused())


def test_a_machine_without_helm_is_refused(host: Host) -> None:
    there = said(host.refused(cluster_helm_path=str(host.folder / "there")))
    assert "helm does not run on the machine that Ansible runs on" in there


def test_a_chart_that_cannot_be_had_is_refused(host: Host) -> None:
    (host.folder / "away").touch()
    there = said(host.refused(cluster_cilium_version="9.8.7"))
    assert "helm has no chart of Cilium 9.8.7." in there
    assert "Error: no such host" in there


def test_files_without_the_chart_or_with_another_are_refused(host: Host) -> None:
    given = host.files(b"another chart")
    assert "has no charts/cilium-9.8.7.tgz that is what" in said(host.refused(**given))
    (host.folder / "files/charts/cilium-9.8.7.tgz").unlink()
    assert "helm pull cilium" in said(host.refused(**given))
