"""Writes the one file that a roll-out needs where nothing can be pulled; `sources` calls it.

What is in it, and how it is read, is in `archive`.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

from harness import __version__
from harness.errors import InputError, StoreError
from harness.linux import processes
from harness.targets.kubernetes import archive, dashboards, helm, keepers, registry, values
from harness.targets.kubernetes.archive import (
    CHUNK_BYTES,
    CONTENT,
    FORMAT,
    NODE,
    STACK,
    TRIAL,
    Archive,
    Content,
    Image,
)
from harness.targets.kubernetes.keepers import Keepers

_LEVEL = 3  # gzip's: the next ones take twice the time for a tenth

Tell = Callable[[str], None]


def chart_files() -> dict[str, bytes]:
    """Our own chart, by the names that its files have in a bundle."""
    return {
        f"chart/{path.relative_to(helm.CHART)}": path.read_bytes()
        for path in sorted(helm.CHART.rglob("*"))
        if path.is_file()
    }


def trial(asked: str, prefix: str, tell: Tell, wanted: Keepers) -> Content:
    """What the proof of concept needs; docker gets the image of the dashboards `asked` for.

    `wanted` is who is to keep a signal.
    """
    grafana = dashboards.gathered(asked, prefix, tell)
    given = archive.own_values(grafana=grafana, keeps=keepers.settled(wanted))
    files = {**chart_files(), "values.json": json.dumps(given).encode()}
    return Content(TRIAL, helm.fingerprint(given), values.images(given), files)


def write(
    file: Path,
    tell: Tell,
    content: Callable[[], Content],
    *,
    node_image: str = "",
    prefix: str = "",
) -> Archive:
    """Write what a roll-out of this code needs, whole or not at all; what it then holds.

    `content` says what that is, once it is clear that the file can be. `node_image` is for kind's
    nodes; below `prefix`, the registry of one's own, are the images that docker lacks. InputError
    if the file is there already, StoreError if it cannot be written.
    """
    _require_new(file)
    given = content()
    names = list(given.names)
    registry.gather([*names, *([node_image] if node_image else [])], tell, prefix)
    node = _described([registry.plain(node_image)])[0] if node_image else None
    sums = {name: hashlib.sha256(each).hexdigest() for name, each in given.files.items()}
    made = Archive(
        file, __version__, given.fingerprint, _described(names), node,
        given.profile, sums, list(given.values),
    )  # fmt: skip
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with draft.open("xb") as into:
            if given.values:  # somebody's, in which there may be passwords
                os.fchmod(into.fileno(), 0o600)
            _write(into, made, given.files, tell)
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


def _write(into: IO[bytes], made: Archive, files: Mapping[str, bytes], tell: Tell) -> None:
    tell(f"packing {len(made.images)} images")
    with _part(into, STACK):
        _save(made.names, into)
    if made.node is not None:
        tell(f"packing {made.node.name}")
        with _part(into, NODE):
            _save([made.node.name], into)
    for name, each in files.items():
        with _part(into, name):
            into.write(each)
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
