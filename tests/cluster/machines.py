"""Bare machines for tests: systemd containers with sshd, and what makes them a cluster offline.

`images` builds the image and the files, `test_machines` starts machines on the tests' engine.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.linux import processes
from tests.cluster import building, programs
from tests.cluster.building import BASE, FILES, PROXY
from tests.cluster.engine import Engine

FLANNEL = "ghcr.io/flannel-io/flannel:v0.28.4"
FLANNEL_PLUGIN = "ghcr.io/flannel-io/flannel-cni-plugin:v1.9.1-flannel1"
PROVISIONER = "docker.io/rancher/local-path-provisioner:v0.0.30"
BUSYBOX = "docker.io/library/busybox:1.37"
PACKAGES = ("containerd", "runc", "conntrack", "iptables", "socat", "ethtool")
_NETWORK, _LABEL = "harness-machines", "harness.machine"
_SUBNET = "172.30.77"  # given by name: a machine that is restarted comes back with its address
_READY_SECONDS = 60
_FLAGS = (
    "--privileged", "--cgroupns=private", "--security-opt=seccomp=unconfined",
    "--stop-signal=SIGRTMIN+3", "--tmpfs=/run", "--tmpfs=/tmp:exec", "--volume=/var",
)  # fmt: skip


def _hash(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()[:12]


IMAGE = f"harness-test/machine:{_hash(FILES / 'machine')}"


@dataclass(frozen=True)
class Machine:
    """A container that runs, with the address at which its sshd listens."""

    name: str
    address: str


@dataclass(frozen=True)
class Machines:
    """Those that were started together; `key` opens all of them for root."""

    engine: Engine
    key: Path
    all: tuple[Machine, ...]

    def exec(self, machine: str, *words: str, check: bool = True) -> str:
        """What a command prints in one of them."""
        return self.engine.docker("exec", machine, *words, check=check)

    def restart(self, machine: str) -> None:
        """As if somebody had pressed its reset button."""
        self.engine.docker("restart", "--time=1", machine)
        _await_up(self.engine, machine)

    def stop(self, machine: str) -> None:
        """Switch one off."""
        self.engine.docker("stop", "--time=1", machine)

    def start(self, machine: str) -> None:
        """Switch it on again."""
        self.engine.docker("start", machine)
        _await_up(self.engine, machine)

    def crash(self, machine: str) -> None:
        """As if its plug had been pulled, and put back in."""
        self.engine.docker("kill", machine)
        self.start(machine)

    def cut(self, machine: str) -> None:
        """Take it off the network, without a word to whoever talks with it."""
        self.engine.docker("network", "disconnect", _NETWORK, machine)

    def mend(self, machine: str) -> None:
        """Put it back where it was."""
        (address,) = (each.address for each in self.all if each.name == machine)
        self.engine.docker("network", "connect", f"--ip={address}", _NETWORK, machine)

    def inventory(self, path: Path, control_planes: int = 1) -> Path:
        """An inventory of Ansible's with all of them."""
        lines = ["[control_plane]", *map(self._line, self.all[:control_planes])]
        lines += ["[worker]", *map(self._line, self.all[control_planes:])]
        path.write_text("\n".join(lines) + "\n")
        return path

    def _line(self, machine: Machine) -> str:
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        return (
            f"{machine.name} ansible_host={machine.address} ansible_user=root "
            f"ansible_ssh_private_key_file={self.key} ansible_ssh_common_args='{options}'"
        )


def machine_image(engine: Engine) -> str:
    """The image of a bare machine, built if it is not there (by an engine that has the network)."""
    if not building.has(engine, IMAGE):
        building.base(engine)
        print(f"image {IMAGE}", flush=True)
        building.build(engine, FILES / "machine", IMAGE)
    return IMAGE


def place() -> Path:
    """Where `files` has them, or will."""
    return programs.cache() / f"machine-files-{_key()}"


def files(engine: Engine) -> Path:
    """A folder with all that the playbooks install where nothing can be fetched; made once."""
    made = place()
    if made.is_dir():
        return made
    for old in programs.cache().glob("machine-files-*"):
        shutil.rmtree(old)
    with tempfile.TemporaryDirectory(prefix="images-", dir=programs.cache()) as draft:
        whole = Path(draft) / "files"
        _kubernetes(engine, Path(draft), whole)
        _packages(engine, Path(draft), whole)
        _network_and_storage(engine, Path(draft), whole)
        (whole / "SHA256SUMS").write_text(sums(whole))
        whole.rename(made)
    return made


@contextlib.contextmanager
def running(engine: Engine, count: int, folder: Path) -> Iterator[Machines]:
    """So many machines, called machine-1 and so on; gone afterwards. The key is in `folder`."""
    image, key = machine_image(engine), folder / "key"
    processes.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
    engine.docker("network", "create", f"--subnet={_SUBNET}.0/24", _NETWORK)
    names = [f"machine-{number}" for number in range(1, count + 1)]
    try:
        for number, name in enumerate(names):
            words = ["run", "--detach", "--name", name, "--hostname", name, f"--network={_NETWORK}"]
            words += [f"--ip={_SUBNET}.{11 + number}", f"--label={_LABEL}"]
            engine.docker(*words, *_FLAGS, image)
        made = [Machine(name, f"{_SUBNET}.{11 + number}") for number, name in enumerate(names)]
        for each in made:
            _let_in(engine, each.name, key)
        yield Machines(engine, key, tuple(made))
    finally:
        if left := engine.docker("ps", "--all", "--quiet", f"--filter=label={_LABEL}").split():
            engine.docker("rm", "--force", "--volumes", *left)
        engine.docker("network", "rm", _NETWORK, check=False)


def _let_in(engine: Engine, name: str, key: Path) -> None:
    """Give it the key, and wait until its sshd runs."""
    public = key.with_name("key.pub").read_text().strip()
    script = f"umask 077; echo '{public}' >/root/.ssh/authorized_keys"
    engine.docker("exec", name, "sh", "-c", script)
    _await_up(engine, name)


def _await_up(engine: Engine, name: str) -> None:
    """Until its sshd runs."""
    until = time.monotonic() + _READY_SECONDS
    active = ("exec", name, "systemctl", "is-active", "machine-ssh.service")
    while engine.docker(*active, check=False).strip() != "active":
        assert time.monotonic() < until, engine.docker("exec", name, "systemctl", "--failed")
        time.sleep(0.2)


def _kubernetes(engine: Engine, draft: Path, whole: Path) -> None:
    building.save_kubernetes(engine, draft, whole / "images")
    for name in ("kubelet", "kubeadm", "kubectl"):
        building.link(programs.folder("kubernetes") / name, whole / name)


def _packages(engine: Engine, draft: Path, whole: Path) -> None:
    """The packages that such a machine lacks, and busybox for the provisioner's helper pods."""
    tag = "harness-test/packages:latest"
    more = ("--no-cache", "--build-arg", f"PACKAGES={' '.join(PACKAGES)}")
    building.build(engine, FILES / "packages", tag, *more, source=machine_image(engine))
    container = engine.docker("create", tag).strip()
    for name in ("packages", "cni"):
        engine.docker("cp", f"{container}:/{name}", str(whole))
    engine.docker("cp", f"{container}:/bin/busybox", str(draft))
    engine.docker("rm", container)
    engine.docker("rmi", tag)


def _network_and_storage(engine: Engine, draft: Path, whole: Path) -> None:
    """Flannel's image is kube-proxy's and the program, so that one archive with both is small."""
    images = whole / "images"
    engine.docker("load", "--quiet", "--input", f"{images}/kube-proxy.tar")
    context = draft / "flannel"
    context.mkdir()
    shutil.copy(FILES / "flannel" / "Containerfile", context)
    building.link(programs.folder("flannel") / "flannel", context / "flanneld")
    building.link(programs.folder("flannel-plugin") / "flannel", context / "flannel")
    building.build(engine, context, FLANNEL, source=PROXY)
    engine.docker("tag", FLANNEL, FLANNEL_PLUGIN)  # the plugin is in it as well
    provisioner = programs.folder("local-path-provisioner") / "local-path-provisioner"
    building.program(engine, "local-path-provisioner", provisioner, PROVISIONER)
    _busybox(engine, draft)
    names = {"kube-proxy": [PROXY, FLANNEL, FLANNEL_PLUGIN], "storage": [PROVISIONER, BUSYBOX]}
    for name, tags in names.items():
        engine.docker("save", "--output", f"{images}/{name}.tar", *tags)
        engine.docker("rmi", *tags)


def _busybox(engine: Engine, draft: Path) -> None:
    context = draft / "box"
    context.mkdir()
    shutil.copy(FILES / "busybox" / "Containerfile", context)
    building.link(draft / "busybox", context / "busybox")
    building.build(engine, context, BUSYBOX)


def sums(folder: Path) -> str:
    """Those of all files in a folder, as sha256sum writes them."""
    lines = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        lines.append(f"{found}  {path.relative_to(folder)}\n")
    return "".join(lines)


def _key() -> str:
    """What the files are made of."""
    modules = (
        "kubernetes",
        "etcd",
        "coredns",
        "flannel",
        "flannel-plugin",
        "local-path-provisioner",
    )
    parts = [programs.folder(name).name for name in modules]
    folders = ("machine", "packages", "flannel", "proxy", "pause", "program", "busybox")
    parts += [_hash(FILES / name) for name in folders]
    parts += [BASE, FLANNEL, FLANNEL_PLUGIN, PROVISIONER, BUSYBOX, *PACKAGES]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]
