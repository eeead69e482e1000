"""One guest with a kernel of its own on this machine's files; `test_kernels` runs it.

The guest reads the machine's root file system over 9p, cannot change it, and leaves what it found
in one folder. It is emulated where KVM does not work: nothing in it is asked about time.
"""

from __future__ import annotations

import compileall
import re
import shutil
import sys
from pathlib import Path

from harness.linux import processes
from tests.kernels import initramfs
from tests.kernels.debian import ROOT, Kernel

QEMU = "qemu-system-x86_64"
_SCRIPT = Path(__file__).with_name("first.sh")
_SHARED = "security_model=none,multidevs=remap"


class DiedError(Exception):
    """A guest that did not come to its end: what it was asked may be why."""


def run(kernel: Kernel, folder: Path, seconds: float, *also: str) -> Path:
    """Boot it, let it do all, and wait for its end: the folder of what it left.

    `also` are files of tests that pytest runs there when the events were counted. DiedError says
    what the console said last if the guest did not come to its end.
    """
    results, console = folder / "results", folder / "console.log"
    shutil.rmtree(folder, ignore_errors=True)
    results.mkdir(parents=True)
    for each in ("harness", "tests"):  # the guest cannot keep what it compiles, and is slow
        compileall.compile_dir(ROOT / each, quiet=2)
    words = [("checkout", str(ROOT)), ("python", sys.executable), ("also", " ".join(also))]
    initramfs.write(folder / "initrd", kernel, _SCRIPT, words)
    process = processes.spawn(_command(kernel, folder), log=folder / "qemu.log")
    try:
        ended = processes.await_end(process, seconds)
    finally:
        processes.stop(process, grace_seconds=0)
    if not (results / "exit").exists():
        how = "ended too early" if ended else f"did not end in {seconds:.0f} s"
        said = _last(console) or _last(folder / "qemu.log") or "nothing"
        raise DiedError(f"The guest {how}. It said last: {said}")
    return results


def _command(kernel: Kernel, folder: Path) -> list[str]:
    words = ["console=ttyS0", "panic=-1", "quiet", f"lsm={_security(kernel)}"]
    return [
        "nice", "-n", "10", QEMU, "-nodefaults", "-no-reboot", "-display", "none",
        *_accelerators(), "-cpu", "max", "-smp", "2", "-m", "2G",
        "-serial", f"file:{folder}/console.log",
        "-kernel", str(kernel.image), "-initrd", str(folder / "initrd"),
        "-append", " ".join(words),
        "-virtfs", f"local,path=/,mount_tag=root,readonly=on,{_SHARED}",
        "-virtfs", f"local,path={folder}/results,mount_tag=results,{_SHARED}",
    ]  # fmt: skip


def _accelerators() -> list[str]:
    """KVM where the processor can; some machines have its device and let guests stand still."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    kvm = Path("/dev/kvm").exists() and flags & {"vmx", "svm"}
    return [*(["-accel", "kvm"] if kvm else []), "-accel", "tcg"]


def _security(kernel: Kernel) -> str:
    """The security modules that the kernel would run, and BPF, so that its hook is to be had."""
    found = re.search(r'^CONFIG_LSM="(.*)"$', kernel.config, re.M)
    names = [each for each in (found[1] if found else "").split(",") if each and each != "bpf"]
    return ",".join([*names, "bpf"])


def _last(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return " ".join(lines[-3:])
