"""What libvirt and cloud-init are told of guests, and what of them is removed: no other's."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from harness.errors import CommandError, InputError, NeedError
from harness.targets.vm import qemu
from harness.targets.vm.making import Wanted
from harness.targets.vm.qemu import Qemu

MARK = "shop-0a1b2c3d"
VIRSH = f"""
echo "$@" >>"$0.done"
shift 2
case "$1 $2" in
"domcapabilities --virttype=kvm") [ -e "$0.kvm" ] || {{ echo no kvm >&2; exit 1; }};;
"net-start harness-vm-{MARK}")
    [ ! -e "$0.taken" ] || {{ rm "$0.taken"; echo in use >&2; exit 1; }};;
"list --all") printf 'shop-1\\nshop-2\\nother\\n';;
"list --name") echo shop-1;;
"net-list --all") echo harness-vm-{MARK};;
"desc other") echo bank-0a1b2c3d;;
"desc shop-1"|"desc shop-2") echo {MARK};;
esac
"""
INSTALL = """
for each; do case $each in --cloud-init=user-data=*)
    seed=${each#*user-data=}; cp "${seed%%,*}" "$0.seed"; cp "${seed##*meta-data=}" "$0.meta";;
esac; done
echo "$@" >>"$0.done"
"""


class Libvirt:
    """Its programs on PATH, and what they were told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, script in (("virsh", VIRSH), ("virt-install", INSTALL), ("xorriso", "")):
            place = folder / name
            place.write_text(f"#!/bin/sh\n{script}\n")
            place.chmod(0o755)
        (folder / "virsh.kvm").touch()
        self.image = folder / "debian.qcow2"
        self.image.write_bytes(b"QFI\xfb rest")

    def told(self, name: str, word: str = "") -> list[str]:
        file = self.folder / f"{name}.done"
        lines = file.read_text().splitlines() if file.exists() else []
        plain = [line.removeprefix("--connect=qemu:///system --quiet ") for line in lines]
        return [line for line in plain if line.startswith(word)]

    def guests(self, image: str = "", unaccelerated: bool = False) -> Qemu:
        place = image or str(self.image)
        return Qemu(Wanted("shop", MARK, place, self.folder, unaccelerated))


@pytest.fixture
def libvirt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Libvirt:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(qemu, "await_ssh", lambda *_: None)
    return Libvirt(tmp_path)


def test_a_guest_lets_our_key_in_and_has_a_host_key_that_is_known(libvirt: Libvirt) -> None:
    first, second = libvirt.guests().make(["shop-1", "shop-2"], "ssh-ed25519 OURS us\n", print)
    assert (first.name, first.address, first.user) == ("shop-1", "10.213.61.11", "harness")
    assert second.address == "10.213.61.12"
    assert first.host_key != second.host_key
    text = (libvirt.folder / "virt-install.seed").read_text()  # of the second
    head, _, body = text.partition("\n")
    told = json.loads(body)
    assert head == "#cloud-config"
    assert told["hostname"] == "shop-2"
    (user,) = told["users"]
    assert user["ssh_authorized_keys"] == ["ssh-ed25519 OURS us"]
    assert user["sudo"] == "ALL=(ALL) NOPASSWD:ALL"
    assert told["ssh_keys"]["ed25519_public"].startswith(second.host_key)
    assert told["ssh_keys"]["ed25519_private"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert told["ssh_pwauth"] is False
    meta = json.loads((libvirt.folder / "virt-install.meta").read_text())
    assert meta == {"instance-id": f"{MARK}-1", "local-hostname": "shop-2"}


def test_what_makes_a_guest(libvirt: Libvirt) -> None:
    argv = libvirt.guests().argv("shop-1", 0, Path("/seed"))
    assert argv[:2] == ["virt-install", "--connect=qemu:///system"]
    for word in (
        "--name=shop-1", "--vcpus=2", "--memory=4096", "--virt-type=kvm", "--import",
        "--cpu=host-passthrough", f"--metadata=description={MARK}", "--noautoconsole",
        f"--disk=size=20,format=qcow2,backing_store={libvirt.image},backing_format=qcow2",
        f"--network=network=harness-vm-{MARK},model=virtio,mac=52:54:00:2c:3d:0b",
        "--cloud-init=user-data=/seed/user-data,meta-data=/seed/meta-data",
    ):  # fmt: skip
        assert word in argv
    emulated = libvirt.guests(unaccelerated=True).argv("shop-1", 0, Path("/seed"))
    assert "--virt-type=qemu" in emulated
    assert not any(word.startswith("--cpu") for word in emulated)


def test_their_network_gives_each_its_own_address(libvirt: Libvirt) -> None:
    found = ElementTree.fromstring(libvirt.guests().network("10.213.4", ["shop-1", "shop-2"]))
    assert found.findtext("name") == f"harness-vm-{MARK}"
    assert [each.attrib for each in found.iter("host")] == [
        {"mac": "52:54:00:2c:3d:0b", "name": "shop-1", "ip": "10.213.4.11"},
        {"mac": "52:54:00:2c:3d:0c", "name": "shop-2", "ip": "10.213.4.12"},
    ]


def test_addresses_that_somebody_has_are_left_to_him(libvirt: Libvirt) -> None:
    (libvirt.folder / "virsh.taken").touch()
    (made,) = libvirt.guests().make(["shop-1"], "ssh-ed25519 OURS", print)
    assert made.address == "10.213.62.11"
    assert libvirt.told("virsh", "net-undefine") == [f"net-undefine harness-vm-{MARK}"]


def test_only_what_carries_the_mark_is_started_and_removed(libvirt: Libvirt) -> None:
    libvirt.guests().start()
    assert libvirt.told("virsh", "start") == ["start shop-2"]
    libvirt.guests().remove()
    assert libvirt.told("virsh", "destroy") == ["destroy shop-1"]
    assert [line.split()[1] for line in libvirt.told("virsh", "undefine")] == ["shop-1", "shop-2"]
    assert libvirt.told("virsh", "net-undefine") == [f"net-undefine harness-vm-{MARK}"]


def test_what_is_left_is_found_without_the_mark(libvirt: Libvirt) -> None:
    def left(name: str) -> list[str]:
        return Qemu(Wanted(name, "", "", libvirt.folder)).left()

    assert left("shop") == ["libvirt has guests of it: 2.", "libvirt has networks of it: 1."]
    assert left("bank") == ["libvirt has guests of it: 1."]
    assert left("sho") == []


def test_without_kvm_guests_are_refused_unless_that_is_asked_for(libvirt: Libvirt) -> None:
    libvirt.guests().check()
    (libvirt.folder / "virsh.kvm").unlink()
    with pytest.raises(NeedError, match="There is no KVM here") as caught:
        libvirt.guests().check()
    assert "--unaccelerated; its numbers mean nothing" in caught.value.next_step
    libvirt.guests(unaccelerated=True).check()
    said: list[str] = []
    libvirt.guests(unaccelerated=True).make(["shop-1"], "ssh-ed25519 OURS", said.append)
    assert "what is measured is the emulation" in said[0]


def test_an_image_must_be_one(libvirt: Libvirt, tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(b"\0\0\0\0")
    with pytest.raises(InputError, match="no image of the format qcow2"):
        libvirt.guests(str(tmp_path / "disk.raw")).check()
    with pytest.raises(InputError, match="cannot be read: No such file"):
        libvirt.guests(str(tmp_path / "none.qcow2")).check()
    with pytest.raises(InputError, match="Which image"):
        Qemu(Wanted("shop", MARK, "", tmp_path)).check()


def test_a_machine_without_libvirt_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NeedError, match="virsh and virt-install and xorriso is not installed"):
        Qemu(Wanted("shop", MARK, "", tmp_path)).check()
    assert Qemu(Wanted("shop", MARK, "", tmp_path)).left() == []


def test_a_network_that_never_starts_is_told(
    libvirt: Libvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = libvirt.folder / "virsh"
    script = '[ "$3" = net-start ] && { echo all in use >&2; exit 1; }; exit 0'
    place.write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(CommandError, match="cannot make a network") as caught:
        libvirt.guests().make(["shop-1"], "ssh-ed25519 OURS", print)
    assert caught.value.why == "all in use"
