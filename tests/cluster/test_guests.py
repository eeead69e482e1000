"""A guest of QEMU is made, becomes a cluster offline, is bare again, and goes: one story.

It is a host that is no container: with a kernel, modules, a clock and swap of its own. Where KVM
does not work it is emulated, which takes an hour. The tests need each other, in their order.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import guest_image, guests, machines
from tests.cluster.guests import Libvirt
from tests.cluster.played import KUBECTL, PLAY, changed
from tests.cluster.reached import HARNESS

pytestmark = pytest.mark.cluster

NAME = "trial"
GUEST = f"{NAME}-1"
OTHER = f"{NAME}-two-0a1b2c3d"  # the mark of a cluster `trial-two`
SWAP = """
fallocate --length 256M /swapfile
chmod 600 /swapfile
mkswap --quiet /swapfile
swapon /swapfile
echo '/swapfile none swap sw 0 0' >>/etc/fstab
systemctl daemon-reload
"""
# of what changes by itself only what is ours may count: caches, leases, what a timer has started
LOOK = r"""
dpkg-query --show
apt-mark showhold
systemctl list-unit-files --no-legend --state=enabled
find /etc /opt /usr/local /usr/libexec /var/lib -xdev -not -path '/var/lib/dpkg/*' \
    -not -path '/var/lib/systemd/*' -not -path '/var/lib/apt/*' -not -path '/var/lib/private/*' \
    -not -path '/etc/systemd/system/*.wants' -not -name '*.cache' -not -name '*-'
sysctl --ignore net.ipv4.ip_forward net.ipv4.conf.all.accept_redirects \
    net.ipv4.conf.all.route_localnet vm.overcommit_memory vm.panic_on_oom kernel.panic \
    kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes
ls /sys/class/net /sys/fs/bpf
cat /proc/swaps /etc/fstab /etc/hosts /etc/resolv.conf
find /sys/fs/cgroup -maxdepth 1 -name 'kube*'
systemctl list-units --plain --no-legend --all 'kubepods*'
awk '$3 == "cgroup2" || $2 ~ /kube|containerd|cni/' /proc/self/mounts
awk '$1 == "nft_chain_nat" && $3 > 0 {print "hooks of nat"}' /proc/modules
find /run/containerd /run/flannel -maxdepth 0 2>/dev/null || true
cat /sys/kernel/security/apparmor/profiles | sed 's/ .*//'
"""
READY = "wait --for=condition=Ready node --all --timeout=5s"
PODS_READY = "wait --for=condition=Ready pod --all --all-namespaces --timeout=60s"


@dataclass
class Story:
    """The guest, and how it was before."""

    libvirt: Libvirt
    files: Path
    has: dict[str, list[str]]
    before: list[str] = field(default_factory=list)
    inventory: str = ""

    def tell(self, script: str, check: bool = True) -> str:
        return self.libvirt.tell(NAME, script, check)

    def kubectl(self, words: str) -> str:
        return self.tell(f"{' '.join(KUBECTL)} {words}")

    def looked(self) -> list[str]:
        return sorted(self.tell(LOOK).splitlines())

    def boot(self) -> str:
        return self.tell("cat /proc/sys/kernel/random/boot_id").strip()

    def restart(self) -> None:
        """By itself, and not by libvirt; until ssh answers again."""
        was = self.boot()
        self.tell("systemd-run --quiet --on-active=1 systemctl reboot")
        again = f"! grep -q {was} /proc/sys/kernel/random/boot_id"
        self.libvirt.await_that(NAME, again, seconds=900)

    def play(self, playbook: str, check: bool = False) -> Any:
        folder = self.libvirt.folder
        asked = {
            "playbook": playbook, "inventory": self.inventory, "log": str(folder / "ansible.log"),
            "check": check, "variables": {
                "cluster_source": "files", "cluster_files": str(self.files),
                "kubeconfig": str(folder / "kubeconfig"),
            },
        }  # fmt: skip
        done = self.libvirt.run(sys.executable, "-c", PLAY, json.dumps(asked), check=True)
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    if os.geteuid() != 0 or not os.environ.get("HARNESS_GUESTS"):
        pytest.skip("`make test-guests` makes one: an hour where KVM does not work")
    if missing := [name for name in guests.NEEDED if shutil.which(name) is None]:
        pytest.skip(f"{', '.join(missing)} is missing: `make test-guests` installs it")
    if not machines.place().is_dir():
        pytest.skip("what a cluster is made of is not in the cache: `make test-guests` builds it")
    with (
        tempfile.TemporaryDirectory(prefix="harness-guests-") as folder,
        guests.running(Path(folder), guest_image.image()) as libvirt,
    ):
        try:
            yield Story(libvirt, machines.place(), libvirt.has())
        finally:
            libvirt.run(HARNESS, "down", "--target", "vm", "--name", NAME)
            _remove_other(libvirt)


def _make_other(libvirt: Libvirt) -> None:
    """A guest, a network and a folder of somebody's whose cluster is called nearly so."""
    folder = libvirt.folder
    guest = f"""<domain type='qemu'><name>{NAME}-2</name><description>{OTHER}</description>
        <memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>"""
    network = f"<network><name>harness-vm-{OTHER}</name></network>"
    for word, text in {"define": guest, "net-define": network}.items():
        (folder / f"{word}.xml").write_text(text)
        libvirt.virsh(word, str(folder / f"{word}.xml"))
    libvirt.virsh("pool-define-as", f"harness-vm-{OTHER}", "dir", f"--target={folder}")


def _remove_other(libvirt: Libvirt) -> None:
    libvirt.virsh("undefine", f"{NAME}-2", check=False)
    for what in ("net", "pool"):
        libvirt.virsh(f"{what}-undefine", f"harness-vm-{OTHER}", check=False)


def test_a_guest_is_made_and_known_from_the_first_moment(story: Story) -> None:
    _make_other(story.libvirt)
    made = story.libvirt.make(NAME)
    assert made.get("fresh"), made
    print(f"{made['seconds']:.0f} s")
    (machine,) = made["machines"]
    assert (machine["name"], machine["role"], machine["made"]) == (GUEST, "control_plane", "qemu")
    story.inventory = made["inventory"]
    # by a connection that takes no other host key than the one that was made for it
    assert story.tell("hostname; id -un").split() == [GUEST, "root"]
    assert story.tell("cloud-init status").strip() == "status: done"
    assert int(story.tell("df --output=size --block-size=1G / | tail -1")) >= 18
    assert f"harness-vm-{made['mark']}" in story.libvirt.has()["networks"]


def test_a_second_call_changes_nothing(story: Story) -> None:
    was = story.boot()
    made = story.libvirt.make(NAME)
    assert made["fresh"] is False
    assert story.boot() == was


def test_a_guest_that_restarts_itself_comes_back(story: Story) -> None:
    story.restart()


def test_a_guest_that_is_off_is_started(story: Story) -> None:
    story.libvirt.virsh("destroy", GUEST)
    assert story.libvirt.make(NAME)["fresh"] is False
    assert story.tell("hostname").strip() == GUEST


def test_a_look_at_it_changes_nothing(story: Story) -> None:
    story.tell(SWAP)
    story.before = story.looked()
    changed(story.play("site.yml", check=True))
    assert story.looked() == story.before


def test_it_becomes_a_cluster(story: Story) -> None:
    assert all(changed(story.play("site.yml")).values())
    story.kubectl(READY)


def test_a_second_run_changes_nothing_of_it(story: Story) -> None:
    assert changed(story.play("site.yml")) == {GUEST: 0}


def test_it_is_a_node_again_after_a_restart(story: Story) -> None:
    """Its modules, its parameters and its swap are there, and what it was given is as it was."""
    story.restart()
    for what in (READY, PODS_READY):  # the first may be what was so before
        story.libvirt.await_that(NAME, f"{' '.join(KUBECTL)} {what}", seconds=1800)
    assert "/swapfile" in story.tell("cat /proc/swaps")
    assert changed(story.play("site.yml")) == {GUEST: 0}


def test_reset_leaves_it_as_it_was(story: Story) -> None:
    log = story.libvirt.folder / "ansible.log"
    begin = log.stat().st_size
    recap = story.play("reset.yml")
    assert "error" not in recap, recap
    assert "left there" not in log.read_text()[begin:]
    assert story.looked() == story.before
    assert changed(story.play("reset.yml")) == {GUEST: 0}


def test_down_removes_the_guest_and_nobody_elses(story: Story) -> None:
    done = story.libvirt.run(HARNESS, "down", "--target", "vm", "--name", NAME, "--verify")
    assert done.returncode == 0, done.stdout + done.stderr
    left = story.libvirt.has()
    assert [name for name in left["guests"] if name not in story.has["guests"]] == [f"{NAME}-2"]
    for what in ("networks", "folders"):
        new = [name for name in left[what] if name not in story.has[what]]
        assert new == [f"harness-vm-{OTHER}"]
    assert not list(Path("/var/lib/libvirt/images").glob(f"harness-vm-{NAME}-*"))
