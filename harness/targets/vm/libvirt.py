"""libvirt by its program `virsh`: whether it can make guests, and disks for them; for `qemu`."""

from __future__ import annotations

import contextlib
import platform
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import CommandError, NeedError
from harness.linux import processes
from harness.linux.processes import Completed

CONNECT = "--connect=qemu:///system"
SECONDS = 600.0
_IMAGES = "/var/lib/libvirt/images"  # where its policies of SELinux and AppArmor let disks be
_CPU = Path("/proc/cpuinfo")
_UNREADABLE = re.compile(
    r"(?:Cannot access (?:backing|storage) file|Could not open) '(?P<file>[^']*)'"
    r"[^\n]*Permission denied"
)


def virsh(*words: str, check: bool = True) -> Completed:
    """What a command of virsh says."""
    argv = ["virsh", CONNECT, "--quiet", *words]
    return processes.run(argv, check=check, timeout=SECONDS)


def require(unaccelerated: bool) -> None:
    """NeedError where it is not reached, or has no QEMU, or no KVM and that is not passed over."""
    reached = virsh("uri", check=False)
    if reached.returncode:
        raise NeedError(
            "libvirt is not reached.",
            _said(reached),
            "Let it run (systemctl start libvirtd), and let this user into the group libvirt.",
        )
    emulated = virsh("domcapabilities", "--virttype=qemu", check=False)
    if emulated.returncode:
        raise NeedError(
            "libvirt has no QEMU here.",
            _said(emulated),
            "Install it (Debian and Ubuntu: qemu-system-x86, or qemu-system-arm).",
        )
    if unaccelerated:
        return
    capable = virsh("domcapabilities", "--virttype=kvm", check=False)
    if capable.returncode:
        raise _without("There is no KVM here: guests would be emulated.", _said(capable))
    if not _virtualizes():  # libvirt asks no more than whether the device opens
        raise _without(
            "KVM is here and can run no guest.",
            "There is /dev/kvm, and the processor has neither VMX nor SVM, as in a virtual machine "
            "whose own host passes neither on: guests would not start, or stand still.",
        )


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Around what starts a guest: what libvirt refuses is told by a sentence, if that is known."""
    try:
        yield
    except CommandError as error:
        found = _UNREADABLE.search(str(error))
        if found is None:
            raise
        raise NeedError(
            f"The guests cannot read the image {found['file']}.",
            "They run as a user of libvirt's, who may not enter the folder it is in (as that of "
            "a person's own), or not read it.",
            f"Put it where others may read it, as {_IMAGES}, and name it there: --image FILE.",
        ) from error


def install(argv: Sequence[str]) -> None:
    """Run virt-install; what it says last, how a guest is started again, is not why it failed."""
    done = processes.run(argv, check=False, timeout=SECONDS)
    if done.returncode:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        why = [line.removeprefix("ERROR").strip() for line in lines if line.startswith("ERROR")]
        raise CommandError(
            "virt-install cannot make a guest.",
            " ".join(why or lines[-3:])[-300:],
            f"Run it by itself to see all that it says: {shlex.join(argv)}.",
        )


def make_pool(name: str) -> None:
    """A folder of libvirt's for disks, that is gone with `remove_pool`."""
    virsh("pool-define-as", name, "dir", f"--target={_IMAGES}/{name}")
    virsh("pool-build", name)
    virsh("pool-start", name)
    virsh("pool-autostart", name)


def remove_pool(name: str) -> None:
    """Remove it with all that is in it; safe to call again, also of one that was half made."""
    if name not in pools():
        return
    virsh("pool-start", name, check=False)  # as after a restart; else it is so already
    virsh("pool-refresh", name, check=False)
    volumes = virsh("vol-list", name, check=False).stdout.splitlines()
    for volume in filter(
        None, (line.strip().split(None, 1)[0] for line in volumes if line.strip())
    ):
        virsh("vol-delete", volume, f"--pool={name}")
    virsh("pool-destroy", name, check=False)
    virsh("pool-delete", name, check=False)
    virsh("pool-undefine", name)


def upload(pool: str, name: str, file: Path) -> None:
    """Put a file into a pool, which has none of this name."""
    virsh("vol-create-as", pool, name, str(file.stat().st_size), "--format=raw")
    virsh("vol-upload", name, str(file), f"--pool={pool}")


def pools() -> list[str]:
    """Its folders for disks."""
    return virsh("pool-list", "--all", "--name", check=False).stdout.split()


def _virtualizes() -> bool:
    """Whether the processor can, as far as it says so: others than x86 have no word for it."""
    if platform.machine() != "x86_64":
        return True
    flags = re.search(r"^flags\s*:(.*)$", _CPU.read_text(), re.MULTILINE)
    return flags is not None and bool({"vmx", "svm"} & set(flags[1].split()))


def _without(what: str, why: str) -> NeedError:
    return NeedError(
        what,
        why,
        "Take a machine that has it (/dev/kvm). To see that things work, and no more: "
        "--unaccelerated; its numbers mean nothing.",
    )


def _said(done: Completed) -> str:
    return " ".join(done.stderr.split())[-300:]
