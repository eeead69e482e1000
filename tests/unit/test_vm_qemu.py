"""What libvirt and cloud-init are told of guests, and what of them is removed: no other's."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from harness.errors import CommandError, ComponentError, InputError, NeedError
from harness.targets.vm import libvirt as program
from harness.targets.vm import qemu
from harness.targets.vm.making import Wanted
from harness.targets.vm.qemu import Qemu
from tests.unit.clocked import Clock

MARK = "shop-0a1b2c3d"
VIRSH = f"""
echo "$@" >>"$0.done"
shift 2
case "$1 $2" in
"uri ") [ ! -e "$0.off" ] || {{ echo no socket >&2; exit 1; }};;
"domcapabilities --virttype=qemu") [ ! -e "$0.bare" ] || {{ echo no emulator >&2; exit 1; }};;
"domcapabilities --virttype=kvm") [ -e "$0.kvm" ] || {{ echo no kvm >&2; exit 1; }};;
"net-start harness-vm-{MARK}")
    [ ! -e "$0.taken" ] || {{ rm "$0.taken"; echo in use >&2; exit 1; }};;
"list --all") printf 'shop-1\\nshop-2\\nother\\n';;
"list --name") echo shop-1;;
"start shop-1") [ ! -e "$0.closed" ] || {{ cat "$0.closed" >&2; exit 1; }};;
"pool-list --all") [ ! -e "$0.pool" ] || echo harness-vm-{MARK};;
"vol-list harness-vm-{MARK}") printf ' a.qcow2   /there/a.qcow2\n b.iso   /there/b.iso\n\n';;
"vol-upload shop-1-seed.iso"|"vol-upload shop-2-seed.iso") cp "$3" "$0.iso";;
"net-list --all") echo harness-vm-{MARK};;
"desc other") echo bank-0a1b2c3d;;
"desc shop-1"|"desc shop-2") echo {MARK};;
esac
"""
ISO = """
for each; do case $each in
*/user-data) cp "$each" "$0.seed";;
*/meta-data) cp "$each" "$0.meta";;
*/seed.iso) echo image >"$each";;
esac; done
echo "$@" >>"$0.done"
"""
SSH = """
echo "$@" >>"$0.done"
for each; do case $each in UserKnownHostsFile=*) cp "${each#*=}" "$0.known";; esac; done
[ ! -e "$0.shut" ] || { rm "$0.shut"; echo System is booting up >&2; exit 255; }
[ ! -e "$0.closed" ] || { echo Permission denied >&2; exit 255; }
[ ! -e "$0.failed" ] || { echo status: error; exit 1; }
"""
INSTALL = """
echo "$@" >>"$0.done"
[ ! -e "$0.failed" ] || { cat "$0.failed" >&2; exit 1; }
"""
PROGRAMS = {"virsh": VIRSH, "virt-install": INSTALL, "xorriso": ISO, "ssh": SSH}


class Libvirt:
    """Its programs on PATH, and what they were told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, script in (
            ("virsh", VIRSH),
            ("virt-install", INSTALL),
            ("xorriso", ISO),
            ("ssh", SSH),
        ):
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
    monkeypatch.setattr(qemu, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(program, "_CPU", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags\t\t: fpu vmx pni\n")
    return Libvirt(tmp_path)


def test_a_guest_lets_our_key_in_and_has_a_host_key_that_is_known(libvirt: Libvirt) -> None:
    first, second = libvirt.guests().make(["shop-1", "shop-2"], "ssh-ed25519 OURS us\n", print)
    assert (first.name, first.address, first.user) == ("shop-1", "10.213.61.11", "harness")
    assert second.address == "10.213.61.12"
    assert first.host_key != second.host_key
    text = (libvirt.folder / "xorriso.seed").read_text()  # of the second
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
    meta = json.loads((libvirt.folder / "xorriso.meta").read_text())
    assert meta == {"instance-id": f"{MARK}-1", "local-hostname": "shop-2"}


def test_what_makes_a_guest(libvirt: Libvirt) -> None:
    argv = libvirt.guests().argv("shop-1", 0)
    assert argv[:2] == ["virt-install", "--connect=qemu:///system"]
    pool = f"harness-vm-{MARK}"
    for word in (
        "--name=shop-1", "--vcpus=2", "--memory=4096", "--virt-type=kvm", "--import",
        "--cpu=host-passthrough", f"--metadata=description={MARK}", "--noautoconsole", "--noreboot",
        f"--disk=pool={pool},size=20,format=qcow2,bus=virtio,backing_store={libvirt.image},"
        "backing_format=qcow2",
        f"--disk=vol={pool}/shop-1-seed.iso,format=raw,bus=virtio,readonly=on",
        f"--network=network={pool},model=virtio,mac=52:54:00:2c:3d:0b",
    ):  # fmt: skip
        assert word in argv
    emulated = libvirt.guests(unaccelerated=True).argv("shop-1", 0)
    assert "--virt-type=qemu" in emulated
    assert "--cpu=mode=maximum" in emulated


def test_guests_begin_as_they_go_on(libvirt: Libvirt) -> None:
    """Defined, then started: virt-install's own beginning turns the first restart into an end."""
    libvirt.guests().make(["shop-1"], "ssh-ed25519 OURS", print)
    told = [line.split()[0] for line in libvirt.told("virsh")]
    assert told == [
        "net-define", "net-start", "net-autostart", "pool-define-as", "pool-build", "pool-start",
        "pool-autostart", "vol-create-as", "vol-upload", "start",
    ]  # fmt: skip
    assert (libvirt.folder / "virsh.iso").read_text() == "image\n"
    assert "-volid cidata" in libvirt.told("xorriso")[0]


def test_a_guest_is_there_when_cloud_init_has_ended(libvirt: Libvirt) -> None:
    """Its sshd listens before; by which key it is known, it was told."""
    (libvirt.folder / "ssh.shut").touch()
    said: list[str] = []
    (made,) = libvirt.guests().make(["shop-1"], "ssh-ed25519 OURS", said.append)
    first, second = libvirt.told("ssh")
    assert first == second
    assert f"-i {libvirt.folder}/key" in first
    assert first.endswith(f"harness@{made.address} cloud-init status --wait")
    known = (libvirt.folder / "ssh.known").read_text()
    assert known == f"{made.address} {made.host_key}\n"
    assert said == []


def test_what_cloud_init_could_not_do_is_told(libvirt: Libvirt) -> None:
    (libvirt.folder / "ssh.failed").touch()
    said: list[str] = []
    libvirt.guests().make(["shop-1"], "ssh-ed25519 OURS", said.append)
    assert said == ["shop-1 goes on, though cloud-init has not done all there: status: error"]


def test_a_guest_that_lets_nobody_in_is_named(
    libvirt: Libvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu, "time", Clock())
    monkeypatch.setattr(qemu, "_LOOK_SECONDS", 100.0)
    (libvirt.folder / "ssh.closed").touch()
    with pytest.raises(ComponentError, match="shop-1 was made and lets nobody in") as caught:
        libvirt.guests().make(["shop-1"], "ssh-ed25519 OURS", print)
    assert caught.value.why == "Permission denied"
    assert "console shop-1" in caught.value.next_step


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
    gone = libvirt.told("virsh", "undefine")
    assert [line.split()[1] for line in gone] == ["shop-1", "shop-2"]
    assert all("--managed-save --snapshots-metadata" in line for line in gone)
    assert libvirt.told("virsh", "vol-delete") == []
    assert libvirt.told("virsh", "net-undefine") == [f"net-undefine harness-vm-{MARK}"]


def test_their_disks_go_with_the_folder_that_is_theirs(libvirt: Libvirt) -> None:
    (libvirt.folder / "virsh.pool").touch()
    pool = f"harness-vm-{MARK}"
    libvirt.guests().remove()
    assert libvirt.told("virsh", "vol-delete") == [
        f"vol-delete a.qcow2 --pool={pool}",
        f"vol-delete b.iso --pool={pool}",
    ]
    assert libvirt.told("virsh", "pool-undefine") == [f"pool-undefine {pool}"]


def test_what_is_left_is_found_without_the_mark(libvirt: Libvirt) -> None:
    def left(name: str) -> list[str]:
        return Qemu(Wanted(name, "", "", libvirt.folder)).left()

    assert left("shop") == ["libvirt has guests of it: 2.", "libvirt has networks of it: 1."]
    (libvirt.folder / "virsh.pool").touch()
    assert left("shop")[2:] == ["libvirt has folders of disks of it: 1."]
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


def test_a_kvm_that_can_run_nothing_is_refused(libvirt: Libvirt) -> None:
    """As in a virtual machine that has the device: libvirt asks no more than whether it opens."""
    (libvirt.folder / "cpuinfo").write_text("processor : 0\nflags\t\t: fpu pni hypervisor\n")
    with pytest.raises(NeedError, match="KVM is here and can run no guest") as caught:
        libvirt.guests().check()
    assert "neither VMX nor SVM" in caught.value.why
    assert "--unaccelerated" in caught.value.next_step
    libvirt.guests(unaccelerated=True).check()


def test_a_libvirt_that_does_not_answer_is_no_want_of_kvm(libvirt: Libvirt) -> None:
    (libvirt.folder / "virsh.bare").touch()
    with pytest.raises(NeedError, match="libvirt has no QEMU here") as caught:
        libvirt.guests(unaccelerated=True).check()
    assert caught.value.why == "no emulator"
    (libvirt.folder / "virsh.off").touch()
    with pytest.raises(NeedError, match="libvirt is not reached") as caught:
        libvirt.guests(unaccelerated=True).check()
    assert caught.value.why == "no socket"
    assert "the group libvirt" in caught.value.next_step


@pytest.mark.parametrize(
    "said",
    [
        "Cannot access backing file '/home/me/debian.qcow2' of storage file '/pool/shop-1.qcow2' "
        "(as uid:64055, gid:64055): Permission denied",
        "process exited: Could not open '/home/me/debian.qcow2': Permission denied",
    ],
)
def test_an_image_that_guests_may_not_read_is_named(libvirt: Libvirt, said: str) -> None:
    """As libvirt says it, and as QEMU does, whom SELinux refuses."""
    text = f"error: Failed to start domain 'shop-1'\nerror: {said}\n"
    (libvirt.folder / "virsh.closed").write_text(text)
    with pytest.raises(NeedError, match=r"read the image /home/me/debian\.qcow2") as caught:
        libvirt.guests().make(["shop-1"], "ssh-ed25519 OURS", print)
    assert "/var/lib/libvirt/images" in caught.value.next_step


def test_why_virt_install_failed_is_told(libvirt: Libvirt) -> None:
    """Its last words are how to start a guest again, whatever happened."""
    (libvirt.folder / "virt-install.failed").write_text(
        "WARNING  Using --osinfo generic\nERROR    No space for it.\nDomain installation does not "
        "appear to have been successful.\nIf it was, you can restart your domain by running:\n  "
        "virsh start shop-1\notherwise, please restart your installation.\n"
    )
    with pytest.raises(CommandError, match="virt-install cannot make a guest") as caught:
        libvirt.guests().make(["shop-1"], "ssh-ed25519 OURS", print)
    assert caught.value.why == "No space for it."
    assert "--name=shop-1" in caught.value.next_step


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
