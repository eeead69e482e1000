"""Kernels as Debian packages them, fetched into `.cache/kernels`; `machine` boots them.

The machine's own apt is asked for its mirror and never changed: lists, cache and sources are in a
folder of their own, what is fetched has the hash of the signed index, and nothing is installed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CommandError, HarnessError
from harness.linux import processes

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "kernels"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# by the name of a result: the suite and what it is called where people read it
SUITES = {
    "bullseye": "Debian 11",
    "bookworm": "Debian 12",
    "trixie": "Debian 13",
    "sid": "Debian unstable",
}
_KERNEL = "linux-image-amd64"
_PARTS = re.compile(r"^\s+\|?Depends: (linux-(?:image|modules|binary|base-kernel)-\d\S*)$", re.M)


class Missing(Exception):
    """This machine cannot have the kernel; why is a sentence."""


@dataclass(frozen=True)
class Kernel:
    """What is booted: the image, the folder that has `lib/modules`, and the build's options."""

    release: str
    image: Path
    modules: Path
    config: str
    busybox: Path


def kernel(suite: str) -> Kernel:
    """The newest kernel of a suite, and a static busybox from there; Missing without them."""
    folder = CACHE / suite
    apt = _Apt(suite, folder / "apt")
    apt.update()
    for package in (*apt.parts(_KERNEL), "busybox-static"):
        apt.unpack(package, folder / "root")
    return _found(folder / "root", apt.newest)


def _found(root: Path, image: str) -> Kernel:
    """Where a package has its image, modules and options differs from suite to suite."""
    release = image.removeprefix("linux-image-")

    def first(*places: str) -> Path | None:
        return next((root / each for each in places if (root / each).exists()), None)

    modules = first(f"lib/modules/{release}", f"usr/lib/modules/{release}")
    vmlinuz = first(f"boot/vmlinuz-{release}", f"usr/lib/modules/{release}/vmlinuz")
    config = first(f"boot/config-{release}", f"usr/lib/modules/{release}/config")
    busybox = first("bin/busybox", "usr/bin/busybox")
    if modules is None or vmlinuz is None or busybox is None:
        raise Missing(f"The packages of {release} hold no image, no modules or no busybox.")
    return Kernel(release, vmlinuz, modules, config.read_text() if config else "", busybox)


class _Apt:
    """apt of one suite, which knows nothing of what is installed here."""

    def __init__(self, suite: str, folder: Path) -> None:
        self._suite, self._folder = suite, folder
        self.newest = ""
        for each in ("state/lists/partial", "cache/archives/partial", "packages"):
            (folder / each).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        source = folder / "sources.list"
        source.write_text(f"deb [signed-by={KEYRING}] {mirror()} {suite} main\n")
        self._options = [
            f"-oDir::Etc::sourcelist={source}", "-oDir::Etc::sourceparts=-",
            f"-oDir::State={folder}/state", f"-oDir::State::status={folder}/status",
            f"-oDir::Cache={folder}/cache", "-oAPT::Architecture=amd64",
            "-oAPT::Architectures::=amd64", "-oAPT::Sandbox::User=root",
            "-oAPT::Get::List-Cleanup=0", "-oAcquire::Languages=none",
        ]  # fmt: skip

    def update(self) -> None:
        """Fetch the suite's signed index."""
        try:
            self._run("apt-get", "update", "-qq", "-oAPT::Update::Error-Mode=any", seconds=300)
        except CommandError as error:
            raise Missing(
                f"The mirror has no {self._suite} that apt trusts: {error.why}"
            ) from error

    def parts(self, package: str) -> list[str]:
        """The packages that together are the kernel that `package` stands for."""
        found = list(_PARTS.findall(self._run("apt-cache", "depends", package)))
        if not found:
            raise Missing(f"{self._suite} has no {package}.")
        self.newest = found[0]
        for each in found:  # newer ones keep image and modules apart
            more = _PARTS.findall(self._run("apt-cache", "depends", each))
            found += [one for one in more if one not in found]
        return found

    def unpack(self, package: str, into: Path) -> None:
        """Fetch a package, unless its files are there, and put them below `into`."""
        version = re.search(r"^Version: (\S+)$", self._run("apt-cache", "show", package), re.M)
        done = self._folder / "packages" / f"{package}_{version[1] if version else ''}"
        if done.exists():
            return
        place = self._folder / "packages"
        self._run("apt-get", "download", "-qq", package, seconds=900, cwd=place)
        into.mkdir(parents=True, exist_ok=True)
        for file in place.glob(f"{package}_*.deb"):
            processes.run(["dpkg-deb", "-x", str(file), str(into)], timeout=300)
            file.unlink()
        done.touch()

    def _run(self, program: str, *words: str, seconds: float = 60, cwd: Path | None = None) -> str:
        argv = [program, *self._options, *words]
        return processes.run(argv, timeout=seconds, cwd=cwd, env={"LC_ALL": "C"}).stdout


def mirror() -> str:
    """The Debian mirror that this machine uses."""
    form = "$(ORIGIN)|$(LABEL)|$(REPO_URI)"
    try:
        said = processes.run(["apt-get", "indextargets", "--format", form]).stdout
    except HarnessError as error:
        raise Missing(f"apt cannot be asked for a mirror: {error}") from error
    for line in said.splitlines():
        origin, label, address = line.split("|", 2)
        if (origin, label) == ("Debian", "Debian"):
            return address
    raise Missing(
        "apt has no mirror of Debian: its lists are empty (apt-get update), or another's."
    )
