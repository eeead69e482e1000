"""libvirt for tests of guests, and what is asked of them; `test_guests` tells their story.

Where a libvirt answers it is that one. Elsewhere one is started in a network of its own, whose
bridges and rules go with it; what it keeps below /var/lib/libvirt is what the guests have there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import NeedError
from harness.linux import processes
from harness.linux.processes import Completed
from harness.targets.vm import libvirt
from harness.targets.vm.libvirt import CONNECT
from tests.cluster import programs
from tests.cluster.engine import hierarchies

NEEDED = ("virsh", "virt-install", "xorriso", "libvirtd", "virtlogd", "dnsmasq", "qemu-img",
          "mmdebstrap", "sfdisk", "grub-mkimage")  # fmt: skip
SECONDS = 5400
_READY_SECONDS = 60
_KVM = Path("/dev/kvm")

# what `harness up` does of machines alone, and what it knows of them: the stack in the cluster
# would take an emulated guest hours
SCRIPT = """
import json, sys, time
from dataclasses import replace
from harness.errors import HarnessError
from harness.targets.kubernetes.chosen import Options
from harness.targets.vm import machines, noted, rollout
asked = json.loads(sys.argv[1])

def make():
    given = Options(target="vm", name=asked["name"], image=asked["image"])
    chosen = replace(given.machines, create=1, maker="qemu", unaccelerated=asked["unaccelerated"])
    begun = time.monotonic()
    try:
        found, fresh = machines.taken(
            replace(given, machines=chosen), lambda line: print(line, file=sys.stderr, flush=True)
        )
    except HarnessError as error:
        return {"error": error.to_dict()}
    return {"fresh": fresh, "mark": found.mark, "machines": rollout.machine_list(found),
            "inventory": found.inventory, "seconds": time.monotonic() - begun}

def tell():
    (host,) = noted.read(asked["name"]).hosts
    connection = host.connection()
    try:
        return vars(connection.run("sudo", "sh", "-c", asked["script"], timeout=900.0))
    finally:
        connection.close()

print(json.dumps({"make": make, "tell": tell}[asked["do"]]()))
"""


@dataclass(frozen=True)
class Libvirt:
    """One that answers; `pid` is that of whose network it has, 0 where that is this machine's."""

    pid: int
    folder: Path
    image: Path
    unaccelerated: bool

    def virsh(self, *words: str, check: bool = True) -> str:
        """What it says."""
        return libvirt.virsh(*words, check=check).stdout

    def has(self) -> dict[str, list[str]]:
        """Its guests, networks and folders of disks."""
        asked = {"guests": "list", "networks": "net-list", "folders": "pool-list"}
        return {
            what: sorted(self.virsh(word, "--all", "--name").split())
            for what, word in asked.items()
        }

    def run(self, *words: str, check: bool = False) -> Completed:
        """A command where guests are reached, with a state of the test's own."""
        there = ["nsenter", "--net", "--target", str(self.pid)] if self.pid else []
        environment = {
            "PATH": f"{programs.path()}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "XDG_STATE_HOME": str(self.folder / "state"),
        }
        done = processes.run(
            [*there, "nice", "-n", "10", *words], env=environment, check=check, timeout=SECONDS
        )
        print(done.stderr)
        return done

    def make(self, name: str) -> dict[str, Any]:
        """What `up` makes, or finds."""
        return self._asked("make", name)

    def tell(self, name: str, script: str, check: bool = True) -> str:
        """What a script prints, by root in the guest."""
        done = self._asked("tell", name, script=script)
        assert not check or done["returncode"] == 0, done
        return str(done["stdout"])

    def await_that(self, name: str, script: str, seconds: float) -> None:
        """A script that succeeds there at last; meanwhile the guest may not be reached."""
        until = time.monotonic() + seconds
        while True:
            try:
                self.tell(name, script)
                return
            except Exception:
                if time.monotonic() > until:
                    raise
            time.sleep(2)

    def _asked(self, do: str, name: str, **more: str) -> Any:
        asked = {"do": do, "name": name, "image": str(self.image),
                 "unaccelerated": self.unaccelerated, **more}  # fmt: skip
        done = self.run(sys.executable, "-c", SCRIPT, json.dumps(asked), check=True)
        return json.loads(done.stdout)


@contextlib.contextmanager
def running(folder: Path, image: Path) -> Iterator[Libvirt]:
    """One that answers, and the image where its guests may read it."""
    with contextlib.ExitStack() as stack:
        pid = 0
        if libvirt.virsh("uri", check=False).returncode:
            pid = stack.enter_context(_started(folder))
        kept = Path("/var/lib/libvirt/images") / f"harness-test-{os.getpid()}.qcow2"
        shutil.copy(image, kept)
        kept.chmod(0o644)
        stack.callback(kept.unlink)
        yield Libvirt(pid, folder, kept, _emulated())


def _emulated() -> bool:
    try:
        libvirt.require(unaccelerated=False)
    except NeedError:
        return True
    return False


@contextlib.contextmanager
def _started(folder: Path) -> Iterator[int]:
    """Its daemons, without systemd; ended at the end."""
    script = 'ip link set lo up; exec "$@"'
    argvs = {
        "virtlogd": ["virtlogd", f"--pid-file={folder}/virtlogd.pid"],
        "libvirtd": ["unshare", "--net", "sh", "-c", script, "sh", "libvirtd",
                     f"--pid-file={folder}/libvirtd.pid"],
    }  # fmt: skip
    started: list[processes.Process] = []
    with _opened_kvm():
        try:
            for name, argv in argvs.items():
                nice = ["nice", "-n", "19", *argv]
                started.append(processes.spawn(nice, log=folder / f"{name}.log"))
            _await(folder)
            yield started[-1].pid
        finally:
            for each in reversed(started):
                processes.stop(each)
            _remove_groups()


def _remove_groups() -> None:
    """What libvirt leaves of guests that are gone: empty cgroups, in each of the hierarchies."""
    for root in hierarchies():
        groups = [*(root / "machine").rglob("*"), root / "machine"]
        for path in sorted((each for each in groups if each.is_dir()), reverse=True):
            with contextlib.suppress(OSError):
                path.rmdir()


@contextlib.contextmanager
def _opened_kvm() -> Iterator[None]:
    """The device as udev lets libvirt's user have it: else libvirt looks anew with each command."""
    if not _KVM.exists():
        yield
        return
    was = _KVM.stat()
    shutil.chown(_KVM, group="kvm")
    _KVM.chmod(0o660)
    try:
        yield
    finally:
        os.chown(_KVM, was.st_uid, was.st_gid)
        _KVM.chmod(was.st_mode & 0o777)


def _await(folder: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while libvirt.virsh("uri", check=False).returncode:
        if time.monotonic() > deadline:
            words = " ".join(processes.last_words(folder / "libvirtd.log"))
            raise AssertionError(f"libvirtd does not answer ({CONNECT}): {words}")
        time.sleep(0.2)
