"""The Python packages that a node needs, for the Python of its host; `bundle` packs them.

They are fetched here, so that the host needs neither pip nor a way to a package index.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker

from harness.errors import CommandError, NeedError, StoreError
from harness.linux import processes

ROOTS = frozenset(
    {
        "flask",
        "gunicorn",
        "h2",
        "hdrhistogram",
        "locust",
        "numpy",
        "opentelemetry-proto",
    }
)
"""What the node side imports, and what the Flask service runs on; the lock says what these need."""

_FETCH_SECONDS = 900.0
_OLDEST_GLIBC = 5  # manylinux_2_5 is the first of its names
_HEAD = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)\s*(?:;\s*(.*?))?\s*\\?$")


@dataclass(frozen=True)
class Python:
    """An interpreter as wheels are made for it: CPython `version` over glibc 2.`glibc`."""

    version: str
    machine: str
    glibc: int

    @property
    def minor(self) -> str:
        """Its version without the last number: 3.11."""
        return ".".join(self.version.split(".")[:2])

    @property
    def platforms(self) -> list[str]:
        """The platforms whose wheels it can load, in pip's names, the newest first (PEP 600)."""
        named = [f"manylinux_2_{each}" for each in range(self.glibc, _OLDEST_GLIBC - 1, -1)]
        old = ["manylinux2014", "manylinux2010", "manylinux1", "linux"]
        return [f"{name}_{self.machine}" for name in (*named, *old)]

    @property
    def markers(self) -> dict[str, str]:
        """What the conditions in a lock are judged by (PEP 508)."""
        return {
            "python_version": self.minor,
            "python_full_version": self.version,
            "implementation_name": "cpython",
            "implementation_version": self.version,
            "platform_python_implementation": "CPython",
            "platform_machine": self.machine,
            "platform_system": "Linux",
            "platform_release": "",
            "platform_version": "",
            "sys_platform": "linux",
            "os_name": "posix",
            "extra": "",
        }


@dataclass(frozen=True)
class _Pin:
    """One entry of a lock, and who asks for it, by the lock's comments."""

    name: str
    pin: str
    marker: str
    hashes: tuple[str, ...]
    via: frozenset[str]


def requirements(lock: str, python: Python) -> str:
    """The part of a lock that a node needs, with its hashes, without conditions.

    pip judges conditions by the Python that it runs in, not by the one that it fetches for
    (pypa/pip#11664).
    """
    pins = list(_pins(lock))
    wanted, grown = set(ROOTS), True
    while grown:
        more = {pin.name for pin in pins if pin.via & wanted}
        grown, wanted = not more <= wanted, wanted | more
    lines = []
    for pin in pins:
        met = not pin.marker or Marker(pin.marker).evaluate(python.markers)
        if pin.name in wanted and met:
            lines.append(" ".join([pin.pin, *(f"--hash={each}" for each in pin.hashes)]))
    return "\n".join(lines) + "\n"


def cache() -> Path:
    """Where fetched packages are kept; it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return home / "harness" / "node"


def key(wanted: str, python: Python) -> str:
    """A name for what `fetch` gets."""
    named = f"{python.minor} {python.machine} {python.glibc}\n{wanted}"
    return hashlib.sha256(named.encode()).hexdigest()[:12]


def fetch(wanted: str, python: Python, tell: Callable[[str], None], folder: Path) -> Path:
    """A folder below `folder` with these requirements, unpacked, fetched unless it is there.

    NeedError if they cannot be had, StoreError if the folder cannot be written.
    """
    made = folder / f"packages-{key(wanted, python)}"
    if made.is_dir():
        return made
    tell(f"fetching the Python packages of a node, for Python {python.minor}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="draft-", dir=folder) as draft:
            unpacked = Path(draft) / "packages"
            _install(wanted, python, Path(draft), unpacked)
            shutil.rmtree(unpacked / "bin", ignore_errors=True)  # they name the Python of here
            unpacked.rename(made)  # whole or not at all
    except OSError as error:
        if made.is_dir():  # another process was faster
            return made
        raise StoreError(
            f"The cache {folder} cannot be written: {error.strerror}.",
            "The Python packages of nodes are kept there.",
            "Make room, or set XDG_CACHE_HOME to another place.",
        ) from error
    return made


def _install(wanted: str, python: Python, draft: Path, into: Path) -> None:
    listed = draft / "requirements.txt"
    listed.write_text(wanted)
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    argv += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-compile"]
    argv += ["--implementation", "cp", "--python-version", python.minor]
    for platform in python.platforms:
        argv += ["--platform", platform]
    argv += ["--target", str(into), "--requirement", str(listed)]
    try:
        processes.run(argv, timeout=_FETCH_SECONDS)
    except CommandError as error:
        raise NeedError(
            f"The Python packages of a node cannot be had for Python {python.version}, "
            f"{python.machine}.",
            error.why or error.what,
            "See that pip reaches its index from here, as in `make setup`; the host needs none.",
        ) from error


def _pins(lock: str) -> Iterator[_Pin]:
    """The entries of a lock as `uv pip compile` writes it."""
    for block in re.split(r"\n(?=[A-Za-z0-9])", lock):
        head, *rest = block.split("\n")
        if (found := _HEAD.match(head)) is None:
            continue
        hashes = tuple(re.findall(r"--hash=(\S+)", block))
        via = re.findall(r"^\s+#\s+(?:via\s+)?([A-Za-z0-9._-]+)", "\n".join(rest), re.MULTILINE)
        pin = f"{found[1]}=={found[2]}"
        yield _Pin(found[1], pin, found[3] or "", hashes, frozenset(via) - {"via"})
