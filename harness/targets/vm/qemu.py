"""Machines with a kernel of their own: guests of QEMU, made by libvirt; for `machines`.

They come from a cloud image. libvirt has a network for them with addresses that stay, and starts
them with its host.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import CommandError, ComponentError, InputError, NeedError
from harness.linux import processes
from harness.targets.vm import libvirt, making
from harness.targets.vm.libvirt import CONNECT, virsh
from harness.targets.vm.making import FIRST, Made, Tell, Wanted, await_ssh

USER = "harness"
_PROGRAMS = ("virsh", "virt-install", "xorriso")
_MAGIC = b"QFI\xfb"  # of qcow2
_CPUS, _MEMORY_MIB, _DISK_GIB = 2, 4096, 20
_BOOT_SECONDS = {False: 300.0, True: 3600.0}  # by whether it is emulated
_LOOK_SECONDS = 1.0
_SUBNETS = 8  # that are tried, since others may have one


class Qemu:
    """They have a network with NAT; each has a description by which it is known to be ours."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._network = self._pool = f"harness-vm-{wanted.mark}"

    def check(self) -> None:
        """InputError without a cloud image, NeedError where libvirt or KVM is missing."""
        if missing := [name for name in _PROGRAMS if shutil.which(name) is None]:
            raise NeedError(
                f"{' and '.join(missing)} is not installed.",
                "Guests of QEMU are made by libvirt.",
                "Install it (Debian and Ubuntu: libvirt-daemon-system virtinst xorriso), and let "
                "this user into the group libvirt.",
            )
        self._check_image()
        libvirt.require(self._wanted.unaccelerated)

    def make(self, names: Sequence[str], public_key: str, tell: Tell) -> list[Made]:
        """A network, then a guest for each name, whose host key is made here."""
        if self._wanted.unaccelerated:
            tell("without KVM all takes many times as long; what is measured is the emulation")
        prefix = self._make_network(names)
        libvirt.make_pool(self._pool)
        keys = [self._install(name, number, public_key) for number, name in enumerate(names)]
        made = []
        for number, (name, key) in enumerate(zip(names, keys, strict=True)):
            made.append(Made(name, f"{prefix}.{FIRST + number}", key, USER))
            self._await_begun(made[-1], tell)
        return made

    def start(self) -> None:
        """Start the network and the guests that are off."""
        if self._network not in virsh("net-list", "--name").stdout.split():
            virsh("net-start", self._network)
        running = virsh("list", "--name").stdout.split()
        for name in self._ours():
            if name not in running:
                with libvirt.told():
                    virsh("start", name)

    def remove(self) -> None:
        """Remove guests, their disks, and the network."""
        running = virsh("list", "--name").stdout.split()
        for name in self._ours():
            if name in running:
                virsh("destroy", name)
            # else one that its host has saved when it went down would stay, or one with a snapshot
            virsh("undefine", name, "--nvram", "--managed-save", "--snapshots-metadata")
        libvirt.remove_pool(self._pool)
        if self._network in virsh("net-list", "--all", "--name").stdout.split():
            virsh("net-destroy", self._network, check=False)
            virsh("net-undefine", self._network)

    def left(self) -> list[str]:
        """What libvirt has of machines for a cluster of this name, whoever made them."""
        if shutil.which("virsh") is None:
            return []
        ours = re.compile(rf"harness-vm-{re.escape(self._wanted.cluster)}-[0-9a-f]{{8}}")
        networks = virsh("net-list", "--all", "--name", check=False).stdout.split()
        guests = virsh("list", "--all", "--name", check=False).stdout.split()
        marks = [f"harness-vm-{_description(name)}" for name in guests]
        found = {"guests": marks, "networks": networks, "folders of disks": libvirt.pools()}
        counts = {what: sum(map(bool, map(ours.fullmatch, each))) for what, each in found.items()}
        return [f"libvirt has {what} of it: {count}." for what, count in counts.items() if count]

    def argv(self, name: str, number: int) -> list[str]:
        """The command that defines a guest, its disk on top of the image, and what it is told."""
        # QEMU's own processor is older than what RHEL 9 starts on
        kind = ["--virt-type=qemu", "--cpu=mode=maximum"]
        if not self._wanted.unaccelerated:
            kind = ["--virt-type=kvm", "--cpu=host-passthrough"]
        image = Path(self._wanted.image).resolve()
        return [
            "virt-install", CONNECT, f"--name={name}", f"--memory={_MEMORY_MIB}",
            f"--vcpus={_CPUS}", *kind, "--import", "--osinfo=detect=on,require=off",
            f"--disk=pool={self._pool},size={_DISK_GIB},format=qcow2,bus=virtio,"
            f"backing_store={image},backing_format=qcow2",
            f"--disk=vol={self._pool}/{_seed(name)},format=raw,bus=virtio,readonly=on",
            f"--network=network={self._network},model=virtio,mac={self._mac(number)}",
            f"--metadata=description={self._wanted.mark}", "--graphics=none", "--noautoconsole",
            "--autostart", "--noreboot",
        ]  # fmt: skip

    def user_data(self, name: str, public_key: str, private: str, public: str) -> str:
        """What cloud-init makes of it: a user who may do all, its own host key, no passwords."""
        user = {
            "name": USER, "sudo": "ALL=(ALL) NOPASSWD:ALL", "shell": "/bin/bash",
            "lock_passwd": True, "ssh_authorized_keys": [public_key.strip()],
        }  # fmt: skip
        content: dict[str, Any] = {
            "hostname": name, "users": [user], "ssh_pwauth": False, "disable_root": True,
            "ssh_deletekeys": True,
            "ssh_keys": {"ed25519_private": private, "ed25519_public": public.strip()},
        }  # fmt: skip
        return f"#cloud-config\n{json.dumps(content, indent=1)}\n"  # which is YAML as well

    def network(self, prefix: str, names: Sequence[str]) -> str:
        """The network as libvirt describes one: NAT, and an address for each guest."""
        hosts = "".join(
            f"<host mac='{self._mac(n)}' name='{name}' ip='{prefix}.{FIRST + n}'/>"
            for n, name in enumerate(names)
        )
        return (
            f"<network><name>{self._network}</name><forward mode='nat'/>"
            f"<ip address='{prefix}.1' netmask='255.255.255.0'><dhcp>"
            f"<range start='{prefix}.128' end='{prefix}.254'/>{hosts}</dhcp></ip></network>"
        )

    def _check_image(self) -> None:
        image = Path(self._wanted.image)
        if not self._wanted.image:
            raise InputError(
                "Which image are the guests made from?",
                "It is a cloud image of a distribution, with cloud-init in it.",
                "Name it: --image FILE.qcow2.",
            )
        try:
            with image.open("rb") as stream:
                begins = stream.read(len(_MAGIC))
        except OSError as error:
            raise InputError(
                f"The image {image} cannot be read: {error.strerror}.",
                next_step="Name a file: --image FILE.qcow2.",
            ) from error
        if begins != _MAGIC:
            raise InputError(
                f"{image} is no image of the format qcow2.",
                next_step=f"Make one of it: qemu-img convert -O qcow2 {image} FILE.qcow2.",
            )

    def _make_network(self, names: Sequence[str]) -> str:
        """Make it with addresses that nobody here has; what they begin with."""
        first = int(self._wanted.mark[-2:], 16)
        with tempfile.NamedTemporaryFile("w", prefix="harness-network-", suffix=".xml") as file:
            for number in range(_SUBNETS):
                prefix = f"10.213.{(first + number) % 256}"
                file.seek(0)
                file.truncate()
                file.write(self.network(prefix, names))
                file.flush()
                virsh("net-define", file.name)
                started = virsh("net-start", self._network, check=False)
                if not started.returncode:
                    virsh("net-autostart", self._network)
                    return prefix
                virsh("net-undefine", self._network)
        raise CommandError(
            "libvirt cannot make a network for the guests.",
            " ".join(started.stderr.split())[-300:],
            "See that its other networks start: virsh net-list --all.",
        )

    def _install(self, name: str, number: int, public_key: str) -> str:
        """Make a guest; the public half of its host key. Nothing of the seed stays here."""
        with tempfile.TemporaryDirectory(prefix="harness-seed-") as folder:
            seed = Path(folder)
            private = making.key(seed)
            public = making.public(private).read_text()
            data = self.user_data(name, public_key, private.read_text(), public)
            (seed / "user-data").write_text(data)
            identity = {"instance-id": f"{self._wanted.mark}-{number}", "local-hostname": name}
            (seed / "meta-data").write_text(json.dumps(identity))
            processes.run([
                "xorriso", "-as", "genisoimage", "-quiet", "-volid", "cidata", "-joliet", "-rock",
                "-output", f"{seed}/seed.iso", f"{seed}/user-data", f"{seed}/meta-data",
            ])  # fmt: skip
            libvirt.upload(self._pool, _seed(name), seed / "seed.iso")
        # without its own `--cloud-init`: by that a guest that is restarted the first time stays
        # off, its seed is on a CD, for which small kernels have no driver, and a pool stays behind
        libvirt.install(self.argv(name, number))
        with libvirt.told():
            virsh("start", name)
        return " ".join(public.split()[:2])

    def _await_begun(self, made: Made, tell: Tell) -> None:
        """Until cloud-init has ended in it: what it does last would come in between."""
        seconds = _BOOT_SECONDS[self._wanted.unaccelerated]
        hint = f"See what it says: virsh {CONNECT} console {made.name}."
        await_ssh(made.name, made.address, seconds, hint)
        with tempfile.NamedTemporaryFile("w", prefix="harness-known-") as known:
            known.write(f"{made.address} {made.host_key}\n")
            known.flush()
            argv = [
                "ssh", "-i", str(self._wanted.folder / "key"), "-o", "BatchMode=yes",
                "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes",
                "-o", "GlobalKnownHostsFile=/dev/null", "-o", f"UserKnownHostsFile={known.name}",
                "-o", "ConnectTimeout=10", f"{made.user}@{made.address}",
                "cloud-init status --wait",
            ]  # fmt: skip
            deadline = time.monotonic() + seconds
            while (done := processes.run(argv, check=False, timeout=seconds)).returncode == 255:
                # sshd may listen before it lets anybody in
                if time.monotonic() > deadline:
                    said = " ".join(done.stderr.split())[-300:]
                    raise ComponentError(
                        f"The machine {made.name} was made and lets nobody in.", said, hint
                    )
                time.sleep(_LOOK_SECONDS)
        if done.returncode:
            said = " ".join((done.stdout + done.stderr).split())[-300:]
            tell(f"{made.name} goes on, though cloud-init has not done all there: {said}")

    def _mac(self, number: int) -> str:
        tail = self._wanted.mark[-4:]
        return f"52:54:00:{tail[:2]}:{tail[2:]}:{FIRST + number:02x}"

    def _ours(self) -> list[str]:
        """The guests that carry the mark."""
        names = virsh("list", "--all", "--name").stdout.split()
        return [name for name in names if _description(name) == self._wanted.mark]


def _description(guest: str) -> str:
    return virsh("desc", guest, check=False).stdout.strip()


def _seed(guest: str) -> str:
    """What cloud-init in it reads: a disk of this name."""
    return f"{guest}-seed.iso"
