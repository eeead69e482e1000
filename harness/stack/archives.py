"""Release archives: fetched, held against their sha256, unpacked; `supply` and `subject_source`.

What differs from its sha256 is never unpacked, and what would lie outside of its folder is never
written.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import lzma
import os
import platform
import shutil
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlsplit

from harness.errors import ComponentError, InputError, NeedError

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # as Go and Debian name them
FETCH_SECONDS = 30.0  # without a byte
WHOLE_SECONDS = 3600.0  # for all of one, as for a build
_PIECE = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_DAMAGED = (
    EOFError, OSError, RuntimeError, ValueError, tarfile.TarError, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError,
)  # fmt: skip


def architecture(known: Collection[str]) -> str:
    """Which of these names is that of this machine, as Go or the kernel has it; empty if none."""
    machine = platform.machine()
    names = (ARCHITECTURES.get(machine, machine), machine)
    return next((each for each in names if each in known), "")


def fetch(url: str, sha256: str, folder: Path, where: str, seconds: float = WHOLE_SECONDS) -> Path:
    """The archive in a folder; `where` is named as what says its sha256.

    NeedError if it cannot be fetched within `seconds` or there is no room, ComponentError if it is
    another one.
    """
    deadline, size = time.monotonic() + seconds, 0
    archive, digest = folder / PurePosixPath(urlsplit(url).path).name, hashlib.sha256()
    try:
        with (
            urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer,
            _room_for(url, folder),
            archive.open("wb") as out,
        ):
            told = answer.headers["Content-Length"]
            promised = int(told) if told is not None and told.isdigit() else None
            _require_room(url, folder, promised or 0)
            # what is there by now, since to a server that trickles a whole piece takes for ever
            while size != promised and (piece := answer.read1(_PIECE)):
                digest.update(piece)
                size += out.write(piece)
                if time.monotonic() > deadline:
                    raise NeedError(
                        f"{url} did not come within {seconds:.0f} s: {size} bytes did.",
                        next_step="Try it again when the network is faster.",
                    )
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise NeedError(
            f"{url} cannot be fetched: {error}.",
            next_step="See that this machine reaches it (https_proxy?), then try again.",
        ) from error
    if promised is not None and archive.stat().st_size != promised:
        raise NeedError(
            f"{url} was cut off after {archive.stat().st_size} bytes.", next_step="Try again."
        )
    if digest.hexdigest() != sha256:
        raise ComponentError(
            f"{url} is not what the {where} names: its sha256 is {digest.hexdigest()}.",
            f"{sha256} was expected; what was fetched is thrown away.",
            f"Find out why it changed before you change the {where}.",
        )
    return archive


def program(archive: Path, member: str) -> Path:
    """One file of an archive, beside it; InputError if it has no such file or cannot be read."""
    place = archive.with_name("program")
    try:
        with _room_for(archive.name, archive.parent), place.open("wb") as out:
            if archive.suffix == ".zip":
                with zipfile.ZipFile(archive) as bundle, bundle.open(member) as inside:
                    shutil.copyfileobj(inside, out)
            else:
                with tarfile.open(archive) as tar:
                    found = tar.extractfile(member)
                    if found is None:
                        raise KeyError(member)
                    shutil.copyfileobj(found, out)
    except _DAMAGED as error:
        raise _unreadable(archive, error) from error
    except KeyError as error:
        raise InputError(
            f"{archive.name} has no file {member}: {error}.",
            next_step="Correct `member` of the archive in the catalog.",
        ) from error
    return place


def unpack(archive: Path, folder: Path) -> None:
    """All of an archive into a folder that is made for it.

    InputError if it cannot be read or something of it would lie outside, NeedError without room.
    """
    folder.mkdir()
    try:
        with _room_for(archive.name, folder):
            if archive.suffix == ".zip":
                with zipfile.ZipFile(archive) as bundle:
                    for told in bundle.infolist():
                        _unzip(bundle, told, archive, folder)
            else:
                with tarfile.open(archive) as tar:
                    for member in tar:
                        _untar(tar, member, archive, folder)
        for path in folder.rglob("*"):
            if path.is_symlink():
                _require_within(archive, str(path.relative_to(folder)), path, folder)
    except _DAMAGED as error:
        raise _unreadable(archive, error) from error


def _untar(tar: tarfile.TarFile, member: tarfile.TarInfo, archive: Path, folder: Path) -> None:
    place = _place(archive, member.name, folder)
    if member.isdir():
        place.mkdir(parents=True, exist_ok=True)
    elif member.isfile():
        found = tar.extractfile(member)
        assert found is not None
        with found:
            _write(found, place, member.mode)
    elif member.issym():  # where it leads is looked at when all is there
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(member.linkname)
    elif member.islnk():
        other = _place(archive, member.linkname, folder)
        _require_within(archive, member.name, other, folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.hardlink_to(other)
    else:
        raise _refused(archive, member.name, "is neither a file, a folder nor a link")


def _unzip(bundle: zipfile.ZipFile, told: zipfile.ZipInfo, archive: Path, folder: Path) -> None:
    place, mode = _place(archive, told.filename, folder), told.external_attr >> 16
    if told.is_dir():
        place.mkdir(parents=True, exist_ok=True)
    elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
        with bundle.open(told) as found:
            _write(found, place, mode or 0o644)
    else:
        raise _refused(archive, told.filename, "is neither a file nor a folder")


def _write(found: IO[bytes], place: Path, mode: int) -> None:
    """A file that is not there yet: what is written follows no link."""
    place.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(place, flags, 0o600), "wb") as out:
        shutil.copyfileobj(found, out, _PIECE)
    place.chmod((mode | 0o600) & 0o755)  # nobody else writes it, and it is nobody else's


def _place(archive: Path, name: str, folder: Path) -> Path:
    """Where an entry goes; InputError if that is outside, also by a link that came before."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise _refused(archive, name, "would lie outside of its folder")
    place = folder / path
    _require_within(archive, name, place.parent if place != folder else place, folder)
    return place


def _require_within(archive: Path, name: str, place: Path, folder: Path) -> None:
    try:
        inside = place.resolve().is_relative_to(folder.resolve())
    except RuntimeError:  # links that lead to each other
        inside = False
    if not inside:
        raise _refused(archive, name, "would lie outside of its folder")


def _unreadable(archive: Path, error: Exception) -> InputError:
    return InputError(
        f"{archive.name} cannot be unpacked: {error}.",
        next_step="Name a .tar.gz, .tar.xz, .tar.bz2 or .zip archive.",
    )


def _refused(archive: Path, name: str, why: str) -> InputError:
    return InputError(
        f"{archive.name} is refused: its entry {name!r} {why}.",
        next_step="Find out who made it before you trust it.",
    )


@contextlib.contextmanager
def _room_for(what: str, folder: Path) -> Iterator[None]:
    """NeedError where a write finds no room."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise _no_room(what, folder) from error


def _require_room(what: str, folder: Path, size: int) -> None:
    if (free := shutil.disk_usage(folder).free) < size:
        raise _no_room(what, folder, f"It has {size} bytes, and {free} are free.")


def _no_room(what: str, folder: Path, why: str = "") -> NeedError:
    return NeedError(
        f"There is no room for {what} in {folder}.",
        why,
        "Make room, or point XDG_CACHE_HOME to a folder that has some.",
    )
