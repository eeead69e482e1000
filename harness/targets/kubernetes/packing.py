"""Writes the one file that a roll-out needs where nothing can be pulled; `sources` calls it.

What is in it, and how it is read, is in `archive`.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from harness import __version__
from harness.errors import InputError, StoreError
from harness.linux import processes
from harness.targets.kubernetes import archive, dashboards, helm, registry, values
from harness.targets.kubernetes.archive import (
    CHUNK_BYTES,
    CONTENT,
    FORMAT,
    NODE,
    STACK,
    Archive,
    Image,
)

_LEVEL = 3  # gzip's: the next ones take twice the time for a tenth

Tell = Callable[[str], None]


def write(
    file: Path, tell: Tell, *, node_image: str = "", prefix: str = "", asked: str = ""
) -> Archive:
    """Write what a roll-out of this code needs, whole or not at all; what it then holds.

    `node_image` is for kind's nodes; below `prefix`, the registry of one's own, are the images that
    docker lacks; `asked` are the dashboards. InputError if the file is there already, StoreError if
    it cannot be written.
    """
    _require_new(file)
    given = archive.own_values(grafana=dashboards.gathered(asked, prefix, tell))
    names = values.images(given)
    registry.gather([*names, *([node_image] if node_image else [])], tell, prefix)
    node = _described([registry.plain(node_image)])[0] if node_image else None
    made = Archive(file, __version__, helm.fingerprint(given), _described(names), node)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with draft.open("xb") as into:
            _write(into, made, given, tell)
            into.flush()
            os.fsync(into.fileno())  # what it is on may be pulled out soon
        draft.rename(file)
    except OSError as error:
        raise StoreError(
            f"Cannot write {file}: {error.strerror}.",
            next_step="Make room there, or name a file elsewhere.",
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return made


def _require_new(file: Path) -> None:
    if file.exists():
        raise InputError(
            f"{file} is there already.",
            "It is not overwritten: another machine may wait for it.",
            "Name another file, or remove it.",
        )
    if not file.parent.is_dir():
        raise InputError(f"There is no folder {file.parent}.", "", "Make it, or name another.")


def _write(into: IO[bytes], made: Archive, given: dict[str, Any], tell: Tell) -> None:
    tell(f"packing {len(made.images)} images")
    with _part(into, STACK):
        _save(made.names, into)
    if made.node is not None:
        tell(f"packing {made.node.name}")
        with _part(into, NODE):
            _save([made.node.name], into)
    for path in sorted(helm.CHART.rglob("*")):
        if path.is_file():
            with _part(into, f"chart/{path.relative_to(helm.CHART)}"):
                into.write(path.read_bytes())
    with _part(into, "values.json"):
        into.write(json.dumps(given).encode())
    content = {"format": FORMAT, **asdict(made)}
    del content["file"]
    with _part(into, CONTENT):
        into.write(json.dumps(content).encode())
    into.write(bytes(2 * tarfile.BLOCKSIZE))  # the end of a tar


@contextlib.contextmanager
def _part(into: IO[bytes], name: str) -> Iterator[None]:
    """What is written meanwhile is a file in the tar, whose size is known only afterwards."""
    start = into.tell()
    into.write(bytes(tarfile.BLOCKSIZE))
    yield
    entry = tarfile.TarInfo(name)
    entry.size = into.tell() - start - tarfile.BLOCKSIZE
    into.write(bytes(-entry.size % tarfile.BLOCKSIZE))
    into.seek(start)
    into.write(entry.tobuf(tarfile.GNU_FORMAT))  # it can tell more than 8 GB
    into.seek(0, os.SEEK_END)


def _save(names: Sequence[str], into: IO[bytes]) -> None:
    """Images as docker saves them, packed on the way."""
    argv = ["docker", "save", *names]
    with tempfile.TemporaryDirectory(prefix="harness-bundle-") as folder:
        process = processes.connect(argv, log=Path(folder) / "log")
        assert process.stdout is not None
        try:
            with gzip.GzipFile("", "wb", _LEVEL, into, mtime=0) as packed:
                shutil.copyfileobj(process.stdout, packed, CHUNK_BYTES)
            code = processes.ended(process, archive.END_SECONDS)
        except BaseException:
            processes.stop(process)
            raise
        archive.require_done(argv, code, process.log)


def _described(names: Sequence[str]) -> list[Image]:
    """What the local docker knows of images that it has."""
    found = json.loads(processes.run(["docker", "image", "inspect", *names]).stdout)
    return [
        Image(name, one["Id"], one.get("RepoDigests") or [], one["Size"])
        for name, one in zip(names, found, strict=True)
    ]
