"""A cluster is upgraded by the playbook itself, on hosts whose programs are those of `standin`.

Each host is this machine in a mount namespace with programs of its own in /usr/local, so that what
is put there, and restarted, is nobody else's.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.linux import processes
from harness.targets.vm import ansible

STANDIN = Path(__file__).with_name("standin.py")
OLD, NEW = "v1.34.4", "v1.35.2"
FIRST, SECOND = "alpha", "beta"
ENTER = """#!/bin/sh
exec unshare --mount --uts sh -c '
set -e
hostname {name}
mount --bind {folder}/sbin /usr/local/sbin
mount --bind {folder}/bin /usr/local/bin
mount --bind {folder}/apt /etc/apt
exec /bin/sh "$@"' sh "$@"
"""
OTHERS = ("systemctl", "apt-get", "apt-mark", "ctr", "dpkg")
PYTHON = Path(sys.executable).resolve()

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to mount"),
    pytest.mark.skipif(PYTHON.is_relative_to("/usr/local"), reason="this Python would be hidden"),
    pytest.mark.skipif(not Path("/etc/debian_version").exists(), reason="hosts are a Debian"),
]


@dataclass(frozen=True)
class Hosts:
    """A control plane and a worker, and what is kept of their cluster in `folder`."""

    folder: Path

    def program(self, name: str, version: str) -> bytes:
        words = f"{sys.executable} {STANDIN} {name} {version} {self.folder}"
        return f'#!/bin/sh\nexec {words} "$@"\n'.encode()

    def make(self, name: str) -> None:
        place = self.folder / name
        for part in ("bin", "sbin", "state", "apt/sources.list.d", "tmp"):
            (place / part).mkdir(parents=True)
        for each in ("kubeadm", "kubelet", "kubectl"):
            put(place / "bin" / each, self.program(each, OLD))
        for each in OTHERS:
            put(place / "sbin" / each, self.program(each, "-"))
        put(place / "sh", ENTER.format(name=name, folder=place).encode())
        (place / "state" / "member").touch()

    def files(self, version: str) -> str:
        """A folder of files as one is brought to where there is no network."""
        place = self.folder / f"files-{version}"
        (place / "images").mkdir(parents=True)
        for each in ("kubeadm", "kubelet", "kubectl"):
            put(place / each, self.program(each, version))
        for each in ("etcd", "kube-proxy"):
            (place / "images" / f"{each}.tar").write_text(version)
        paths = sorted(each for each in place.rglob("*") if each.is_file())
        lines = (
            f"{hashlib.sha256(each.read_bytes()).hexdigest()}  {each.relative_to(place)}\n"
            for each in paths
        )
        (place / "SHA256SUMS").write_text("".join(lines))
        return str(place)

    @property
    def cluster(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "cluster.json").read_text())
        return found

    def change(self, node: str, **more: Any) -> None:
        found = self.cluster
        found["nodes"][node] |= more
        (self.folder / "cluster.json").write_text(json.dumps(found))

    @property
    def done(self) -> list[str]:
        """All that was done since the last call, by whom."""
        file = self.folder / "done"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    def play(
        self, version: str = "1.35", *, check: bool = False, **more: Any
    ) -> Mapping[str, ansible.Counts]:
        variables = {"cluster_source": "packages", "upgrade_version": version, **more}
        variables |= {"cluster_minor": version, "cluster_ready_seconds": 4}
        inventory, log = self.folder / "hosts.json", self.folder / "ansible.log"
        try:
            return ansible.play("upgrade.yml", inventory, variables, log, print, check=check)
        finally:
            print(log.read_text()[-6000:])

    def mixed(self, *, check: bool = False) -> Mapping[str, ansible.Counts]:
        """Both ways at once: packages for the first, files for the second."""
        (self.folder / "repository").write_text(NEW[1:])
        place = self.folder / f"files-{NEW}"
        files = str(place) if place.exists() else self.files(NEW)
        source = f"{{{{ 'packages' if inventory_hostname == '{FIRST}' else 'files' }}}}"
        return self.play(cluster_source=source, cluster_files=files, check=check)


def put(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    file.chmod(0o755)


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    done = processes.run(["unshare", "--mount", "--uts", "true"], check=False)
    if done.returncode:
        pytest.skip(f"no namespaces here: {done.stderr.strip()}")
    made = Hosts(tmp_path)
    node = {"kubelet": OLD, "ready": True, "cordoned": False}
    told = {"version": OLD, "nodes": {FIRST: node, SECOND: node}}
    (tmp_path / "cluster.json").write_text(json.dumps(told))
    variables = {}
    for name in (FIRST, SECOND):
        made.make(name)
        variables[name] = {
            "ansible_shell_executable": str(tmp_path / name / "sh"),
            "ansible_remote_tmp": str(tmp_path / name / "tmp"),
            "cluster_state": str(tmp_path / name / "state"),
            "cluster_busy": str(tmp_path / name / "busy"),
        }
    # the inventory's own order is the other one
    groups = {"worker": {SECOND: variables[SECOND]}, "control_plane": {FIRST: variables[FIRST]}}
    common = {"ansible_connection": "local", "ansible_become": False,
              "cluster_node_address": "192.0.2.11",
              "ansible_python_interpreter": str(PYTHON)}  # fmt: skip
    children = {name: {"hosts": each} for name, each in groups.items()}
    inventory = {"all": {"vars": common, "children": children}}
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    return made


def settled(hosts: Hosts) -> None:
    """All of it is of the new version, and no note of anything that was begun is left."""
    node = {"kubelet": NEW, "ready": True}
    nodes = {FIRST: {**node, "cordoned": False}, SECOND: {**node, "cordoned": True}}
    assert hosts.cluster == {"version": NEW, "nodes": nodes}
    for name in (FIRST, SECOND):
        assert not (hosts.folder / name / "state" / "upgrading").exists()


def changes(recap: Mapping[str, ansible.Counts]) -> dict[str, int]:
    return {host: counts.changed for host, counts in recap.items()}


def test_nothing_is_done_where_the_host_would_be_this_machine(hosts: Hosts) -> None:
    """Its own programs would be taken, and its own /etc/apt written into."""
    (hosts.folder / FIRST / "bin").rename(hosts.folder / "away")
    done = processes.run([str(hosts.folder / FIRST / "sh"), "-c", "echo done"], check=False)
    assert done.returncode
    assert done.stdout == ""


def test_one_node_after_the_other_also_when_it_stopped_and_again_nothing(hosts: Hosts) -> None:
    """The first from packages, which stay held, the second from files; their images come first.

    It stops with a node that is empty and has its kubelet already. One that somebody has cordoned
    is so afterwards.
    """
    hosts.change(SECOND, cordoned=True)
    hosts.mixed(check=True)
    assert hosts.done == []
    assert hosts.cluster["version"] == OLD
    first = [
        *installed(FIRST, "kubeadm=1.35.*"),
        f"alpha: plan {NEW}", f"alpha: apply {NEW}", "alpha: drain alpha",
        *installed(FIRST, "kubelet=1.35.2-* kubectl=1.35.2-*"), f"alpha: restart {NEW}",
    ]  # fmt: skip
    (hosts.folder / "breaks").write_text(first[-1])
    with pytest.raises(HarnessError):
        hosts.mixed()
    assert hosts.done == ["beta: images images/kube-proxy.tar", *first]
    hosts.mixed()
    assert hosts.done == [
        *first, "alpha: uncordon alpha",
        "beta: upgrade node", "alpha: drain beta", f"beta: restart {NEW}",
    ]  # fmt: skip
    settled(hosts)
    sources = (hosts.folder / FIRST / "apt/sources.list.d/harness-kubernetes.list").read_text()
    assert "/v1.35/deb/" in sources
    assert changes(hosts.mixed()) == {FIRST: 0, SECOND: 0}
    assert hosts.done == []


def installed(host: str, packages: str) -> list[str]:
    names = " ".join(each.split("=")[0] for each in packages.split())
    words = (f"unhold {names}", f"install {packages}", f"hold {names}")
    return [f"{host}: {each}" for each in words]


@pytest.mark.parametrize(
    ("version", "next_step"),
    [("1.36", "Go to 1.35 first."), ("1.33", "make the cluster anew"), ("1.34.2", "newer version")],
    ids=["skipped", "back", "an older release"],
)
def test_other_versions_are_refused_before_anything(
    hosts: Hosts, version: str, next_step: str
) -> None:
    with pytest.raises(HarnessError, match=f"{version} was asked for") as caught:
        hosts.play(version)
    assert next_step in caught.value.next_step
    assert caught.value.why
    assert hosts.done == []


def test_nodes_that_are_not_ready_or_none_of_it_are_refused(hosts: Hosts) -> None:
    hosts.change(SECOND, ready=False)
    with pytest.raises(HarnessError, match=r"Not ready: beta\."):
        hosts.play()
    hosts.change(SECOND, ready=True, kubelet="v1.33.9")
    with pytest.raises(HarnessError, match=r"Older than 1\.34: beta\."):
        hosts.play()
    (hosts.folder / SECOND / "state" / "member").unlink()
    with pytest.raises(HarnessError, match="beta is not a node of a cluster"):
        hosts.play()
    assert hosts.done == []


def test_files_of_another_version_than_was_asked_for_are_refused(hosts: Hosts) -> None:
    with pytest.raises(HarnessError, match=r"alpha got kubeadm v1\.34\.5, and 1\.35 was asked"):
        hosts.play(cluster_source="files", cluster_files=hosts.files("v1.34.5"))
    assert sorted(hosts.done) == [
        "alpha: images images/etcd.tar", "alpha: images images/kube-proxy.tar",
        "beta: images images/kube-proxy.tar",
    ]  # fmt: skip
    assert hosts.cluster["version"] == OLD
