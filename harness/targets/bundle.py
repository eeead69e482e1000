"""All that a node needs on a host, as one archive: our code, built collectors, services, packages.

Its name is a hash of what it is made from, so that a host that has it needs no other.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.errors import NeedError
from harness.targets import packages
from harness.targets.packages import Python
from harness.wire import objects
from harness.wire.code import NODE

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = "packages"
"""Where in the archive the packages of others are; our own `harness` is at its top."""

_LEFT_OUT = {"__pycache__", "reports"}
_LEVEL = 3  # gzip's: the next ones take twice the time for a tenth


@dataclass(frozen=True)
class Bundle:
    """Files by their names in the archive, and the requirements that are to lie beside them."""

    files: Mapping[str, Path]
    requirements: str
    python: Python

    @property
    def key(self) -> str:
        """What tells it from others: its code, its built parts, its packages, its Python."""
        found = hashlib.sha256(packages.key(self.requirements, self.python).encode())
        for name, path in self.files.items():
            found.update(f"{name}\0{_mode(path):o}\0".encode())
            found.update(hashlib.sha256(path.read_bytes()).digest())
        return found.hexdigest()[:12]

    def write(self, into: IO[bytes], tell: Callable[[str], None], cache: Path) -> None:
        """The archive, the same bytes for the same files; packages are fetched if need be."""
        fetched = packages.fetch(self.requirements, self.python, tell, cache)
        tell("packing what the node needs")
        with (
            gzip.GzipFile("", "wb", _LEVEL, into, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
        ):
            for name, path in self.files.items():
                _add(archive, name, path)
            for name, path in sorted(_files(fetched)):
                _add(archive, f"{PACKAGES}/{name}", path)


def bundle(python: Python, root: Path = ROOT) -> Bundle:
    """What a node of this code needs on a host with this Python; NeedError if it is not built."""
    code = {f"harness/{path.name}": path for path in (root / "harness").glob("*.py")}
    code.pop("harness/__main__.py", None)  # the command line's
    folders = [f"harness/{name}" for name in NODE] + ["workloads"]
    for folder in folders:
        code |= {f"{folder}/{name}": path for name, path in _files(root / folder)}
    built = {f"bpf/.output/{each.name}": each for each in objects.built(root)}
    if lacking := objects.outdated(root):
        raise NeedError(
            f"Collectors are not built from the sources that are here: {', '.join(lacking)}.",
            "It is missing or of other sources: a host would be measured with something else.",
            "Run `make bpf`.",
        )
    lock = (root / "requirements.lock").read_text()
    files = dict(sorted((code | built).items()))
    return Bundle(files, packages.requirements(lock, python), python)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and not _LEFT_OUT & set(name.parts):
            yield str(name), path


def _add(archive: tarfile.TarFile, name: str, path: Path) -> None:
    content = path.read_bytes()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), _mode(path)
    archive.addfile(entry, io.BytesIO(content))


def _mode(path: Path) -> int:
    return 0o755 if os.stat(path).st_mode & 0o100 else 0o644
