"""Machines for trying out: containers of docker with systemd and sshd in them; for `machines`."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import CommandError, InputError, NeedError
from harness.linux import processes
from harness.targets.kubernetes import chosen, images, node_mounts
from harness.targets.vm.making import BOOT_SECONDS, FIRST, Made, Tell, Wanted, await_ssh
from harness.wire.files import write_whole

CLUSTER, MARK = "harness.vm.cluster", "harness.vm.mark"  # labels of docker
_FLAGS = (
    "--privileged", "--cgroupns=private", "--stop-signal=SIGRTMIN+3", "--env=container=docker",
    "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined",
    "--tmpfs=/run", "--tmpfs=/tmp:exec",  # tools are unpacked and run in /tmp
    "--volume=/var",  # images are unpacked there, which an overlay does not take
)  # fmt: skip
_MODULES = Path("/lib/modules")
_LET_IN = "umask 077; mkdir -p /root/.ssh && cat >/root/.ssh/authorized_keys"
_HOST_KEY = "cat /etc/ssh/ssh_host_ed25519_key.pub"
_NOTE = "/var/lib/harness-cluster/cilium"  # what playbooks/roles/host noted there
# those of the whole kernel that a kubelet sets; others are of a network of the machine's own
_SET = (
    "vm.overcommit_memory", "vm.panic_on_oom", "kernel.panic", "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys", "kernel.keys.root_maxbytes",
)  # fmt: skip
_PARAMETERS = Path("/proc/sys")
# nobody is to set them again; the input is what was noted here
_GIVE_BACK = (
    "systemctl stop kubelet; pkill -x cilium-agent; "
    f"[ ! -e {_NOTE} ] || sysctl --quiet --ignore --load={_NOTE}; sysctl --quiet --ignore --load=-"
)
_START_SECONDS = 300.0


class Containers:
    """They share this machine's kernel, and are reached at addresses of a network of their own."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._network = f"harness-vm-{wanted.cluster}"
        self._noted = wanted.folder / "sysctls"
        self._labels = (f"--label={CLUSTER}={wanted.cluster}", f"--label={MARK}={wanted.mark}")

    def check(self) -> None:
        """InputError or NeedError if docker does not answer, or has no such image."""
        chosen.require(["docker"])
        if not self._wanted.image:
            raise InputError(
                "Which image are the machines made from?",
                "Containers that stand for machines need systemd, sshd and python3 in one.",
                "Name it: --image IMAGE; docs/vm.md has a file to build one.",
            )
        if not images.present(self._wanted.image):
            raise NeedError(
                f"The local docker has no image {self._wanted.image}.",
                next_step=f"docker pull {self._wanted.image}, or build it: docs/vm.md says how.",
            )

    def make(self, names: Sequence[str], public_key: str, tell: Tell) -> list[Made]:
        """Start them, let the key in, and mount in each what collectors look for."""
        addresses = self._addresses()
        made = []
        write_whole(self._noted, "".join(_parameters()))
        for number, name in enumerate(names):
            processes.run(self.argv(name, str(addresses[FIRST + number])), timeout=_START_SECONDS)
        for number, name in enumerate(names):
            address = str(addresses[FIRST + number])
            hint = f"See what it says: docker exec {name} systemctl status --no-pager."
            await_ssh(name, address, BOOT_SECONDS, hint)
            _let_in(name, public_key)
            made.append(Made(name, address, _host_key(name)))
        node_mounts.put(list(names))
        return made

    def argv(self, name: str, address: str) -> list[str]:
        """The command that starts one."""
        modules = [f"--volume={_MODULES}:{_MODULES}:ro"] if _MODULES.is_dir() else []
        argv = ["docker", "run", "--detach", f"--name={name}", f"--hostname={name}"]
        argv += [f"--network={self._network}", f"--ip={address}", *self._labels]
        return [*argv, *_FLAGS, *modules, self._wanted.image]

    def start(self) -> None:
        """Start those that are stopped."""
        if found := self._found("container"):
            processes.run(["docker", "start", *found], timeout=_START_SECONDS)

    def remove(self) -> None:
        """Remove the containers with their volumes, and their network.

        The last one first sets parameters of the kernel, which is this machine's, as they were.
        """
        if found := self._found("container"):
            last, *others = found
            if others:
                _remove(others)
            argv = ["docker", "exec", "--interactive", last, "sh", "-c", _GIVE_BACK]
            noted = self._noted if self._noted.exists() else Path(os.devnull)
            processes.run(argv, check=False, timeout=_START_SECONDS, input_file=noted)
            _remove([last])
        if found := self._found("network"):
            processes.run(["docker", "network", "rm", *found])

    def left(self) -> list[str]:
        """What docker has of machines for a cluster of this name, whoever made them."""
        if shutil.which("docker") is None:
            return []
        label = f"{CLUSTER}={self._wanted.cluster}"
        found = {what: _found(what, label, False) for what in ("container", "network")}
        return [f"Docker has {what}s of it: {len(ids)}." for what, ids in found.items() if ids]

    def _found(self, what: str) -> list[str]:
        return _found(what, f"{MARK}={self._wanted.mark}")

    def _addresses(self) -> ipaddress.IPv4Network:
        """The network with its addresses, which docker chooses where nobody else has any.

        Only in one whose addresses were given by name may a container be given its own, and with
        one that docker gives it would come back with another when it is restarted.
        """
        argv = ["docker", "network", "create", *self._labels]
        processes.run([*argv, self._network])
        done = processes.run(["docker", "network", "inspect", self._network])
        subnet = str(json.loads(done.stdout)[0]["IPAM"]["Config"][0]["Subnet"])
        processes.run(["docker", "network", "rm", self._network])
        processes.run([*argv, "--subnet", subnet, self._network])
        return ipaddress.IPv4Network(subnet)


def _parameters() -> Iterator[str]:
    """What this machine's kernel has, as `sysctl --load` reads it."""
    for name in _SET:
        with contextlib.suppress(OSError):  # a kernel may be without one
            yield f"{name} = {_PARAMETERS.joinpath(*name.split('.')).read_text()}"


def _remove(containers: Sequence[str]) -> None:
    argv = ["docker", "rm", "--force", "--volumes", *containers]
    processes.run(argv, timeout=_START_SECONDS)


def _let_in(name: str, public_key: str) -> None:
    with tempfile.NamedTemporaryFile("w", prefix="harness-key-") as file:
        file.write(public_key)
        file.flush()
        argv = ["docker", "exec", "--interactive", name, "sh", "-c", _LET_IN]
        processes.run(argv, input_file=Path(file.name))


def _host_key(name: str) -> str:
    """The key of its sshd, read by docker and so from no stranger."""
    try:
        done = processes.run(["docker", "exec", name, "sh", "-c", _HOST_KEY])
    except CommandError as error:
        raise NeedError(
            f"The machine {name} has no host key of the type ed25519.",
            error.why,
            "Have its image make one when it starts: ssh-keygen -A.",
        ) from error
    return " ".join(done.stdout.split()[:2])


def _found(what: str, label: str, check: bool = True) -> list[str]:
    argv = ["docker", what, "ls", "--quiet", "--filter", f"label={label}"]
    argv += ["--all"] if what == "container" else []
    return processes.run(argv, check=check).stdout.split()
