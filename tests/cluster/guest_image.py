"""A cloud image of Debian 12, made of its packages: what guests of QEMU start from; for `guests`.

It stands in for the one that Debian has on its own pages, which no mirror of packages has:
cloud-init and netplan, one ext4 that grows, GRUB for a BIOS, and the kernel of `genericcloud`,
which knows fewer devices than any other. Nothing is mounted to make it.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
import sys
import tempfile
from pathlib import Path

from harness.linux import processes
from tests.cluster import programs
from tests.kernels.debian import mirror

PACKAGES = (
    "apparmor", "bash-completion", "ca-certificates", "cloud-guest-utils", "cloud-init", "curl",
    "dbus", "e2fsprogs", "grub-pc-bin", "iproute2", "iputils-ping", "kmod", "less",
    "libpam-systemd", "linux-image-cloud-amd64", "locales", "netbase", "netplan.io",
    "openssh-server", "procps", "python3", "sudo", "systemd-resolved", "systemd-sysv",
    "systemd-timesyncd", "udev", "uuid-runtime",
)  # fmt: skip
_SECTOR, _MIB = 512, 1 << 20
_DISK_MIB, _ROOT_AT_MIB = 2560, 4
_CORE_AT = 2048  # the sector at which the partition for GRUB begins
_UUID = "6f0d1f5e-4a5f-4c56-9a43-3c6f6f2f8f11"
_TABLE = f"""label: gpt
start={_CORE_AT}, size={(_ROOT_AT_MIB - 1) * 2048}, type=21686148-6449-6E6F-744E-656564454649
start={_ROOT_AT_MIB * 2048}, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709
"""
_MENU = f"""set timeout=0
menuentry Debian {{
    linux /vmlinuz root=UUID={_UUID} ro console=tty0 console=ttyS0,115200
    initrd /initrd.img
}}
"""
_MODULES = ("biosdisk", "part_gpt", "ext2", "normal", "linux", "configfile", "test", "echo")
_FILES = {
    "boot/grub/grub.cfg": _MENU,
    "etc/fstab": f"UUID={_UUID} / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1\n",
    "etc/hostname": "localhost\n",
    "etc/default/locale": "LANG=C.UTF-8\n",
    "etc/machine-id": "",
}
_SECONDS = 3600.0


def image() -> Path:
    """The image, made if it is not there."""
    made = programs.cache() / f"guest-{_key()}.qcow2"
    if made.exists():
        return made
    programs.cache().mkdir(parents=True, exist_ok=True)
    for old in programs.cache().glob("guest-*.qcow2"):
        old.unlink()
    print("image of a guest", flush=True)
    with tempfile.TemporaryDirectory(prefix="guest-", dir=programs.cache()) as draft:
        folder = Path(draft)
        _root(folder / "root")
        disk = _disk(folder)
        argv = ["qemu-img", "convert", "-c", "-O", "qcow2", str(disk), f"{draft}/disk.qcow2"]
        processes.run(argv, timeout=_SECONDS)
        (folder / "disk.qcow2").rename(made)  # whole or not at all
    return made


def _root(root: Path) -> None:
    """Its files, as packages have them, and those that whoever makes an image writes."""
    _run("mmdebstrap", "--mode=root", "--variant=minbase", "--quiet",
         f"--include={','.join(PACKAGES)}", "bookworm", str(root), mirror())  # fmt: skip
    for name, text in _FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    stub = root / "etc/resolv.conf"
    stub.unlink(missing_ok=True)
    stub.symlink_to("../run/systemd/resolve/stub-resolv.conf")


def _disk(folder: Path) -> Path:
    """A disk with a table, GRUB, and the files in an ext4."""
    disk = folder / "disk"
    with disk.open("wb") as stream:
        stream.truncate(_DISK_MIB * _MIB)
    table = folder / "table"
    table.write_text(_TABLE)
    _run("sfdisk", "--quiet", str(disk), file=table)
    blocks = (_DISK_MIB - _ROOT_AT_MIB - 1) * 256  # of 4 KiB; the table's copy is at the end
    _run("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-U", _UUID, "-d", str(folder / "root"),
         "-E", f"offset={_ROOT_AT_MIB * _MIB}", str(disk), str(blocks))  # fmt: skip
    modules = folder / "root/usr/lib/grub/i386-pc"
    core = folder / "core.img"
    _run("grub-mkimage", f"--directory={modules}", "--format=i386-pc", f"--output={core}",
         "--prefix=(hd0,gpt2)/boot/grub", *_MODULES)  # fmt: skip
    _write_grub(disk, (modules / "boot.img").read_bytes(), core.read_bytes())
    shutil.rmtree(folder / "root")
    return disk


def _write_grub(disk: Path, boot: bytes, core: bytes) -> None:
    """As grub-bios-setup does: the first sector says where the second is, and that where all is."""
    first, rest = bytearray(boot[:440]), bytearray(core)
    struct.pack_into("<Q", first, 0x5C, _CORE_AT)
    sectors = -(-len(core) // _SECTOR) - 1
    struct.pack_into("<QHH", rest, _SECTOR - 12, _CORE_AT + 1, sectors, 0x820)
    with disk.open("r+b") as stream:
        stream.write(first)
        stream.seek(_CORE_AT * _SECTOR)
        stream.write(rest)


def _run(*argv: str, file: Path | None = None) -> None:
    processes.run(["nice", "-n", "19", *argv], timeout=_SECONDS, input_file=file)


def _key() -> str:
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]


def main() -> None:
    """Make it."""
    print(image())


if __name__ == "__main__":
    sys.exit(main())
