"""Gets a component's program by the first way that works, into a cache; `local_stack` asks.

The cache is $XDG_CACHE_HOME/harness/stack (~/.cache without it): `bin/NAME-VERSION-KEY/NAME`, where
KEY is of the module's files or the archive's checksum, and `go/`, the Go tool's own two caches,
fetched toolchains among them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import CommandError, NeedError
from harness.linux import processes
from harness.stack import archives, toolchain
from harness.stack.catalog import Archive, Component, Module, OnPath, Way
from harness.stack.toolchain import numbers

_BUILD_SECONDS = 3600

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Offer:
    """One way to get a component here: how, from where, how large; `refusal` if it cannot be."""

    component: Component
    way: Way
    how: str
    where: str
    size: str = ""
    program: Path | None = None  # where it is or will be
    ready: bool = False
    refusal: str = ""


def cache() -> Path:
    """The folder that holds everything that was got; it may not exist yet."""
    return _cache() / "stack"


def subjects() -> Path:
    """The folder of other people's collectors that were got; it may not exist yet."""
    return _cache() / "subjects"


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return home / "harness"


def offers(component: Component, folder: Path) -> list[Offer]:
    """What each way offers, what is there already before what is to be fetched or built.

    Else in the catalog's order. Changes nothing and uses no network.
    """
    found = [_offer(component, way, folder) for way in component.ways]
    return sorted(found, key=lambda offer: not offer.ready)


def choose(component: Component, folder: Path) -> Offer | None:
    """The first way that can work here, or None."""
    return next((offer for offer in offers(component, folder) if not offer.refusal), None)


def get(component: Component, folder: Path, tell: Tell = lambda _: None) -> Path:
    """The component's program, got if it is not there; `tell` hears what is done.

    NeedError if no way works, with the reason of each; ComponentError if a download differs from
    its checksum, which no other way makes good.
    """
    reasons = []
    for offer in offers(component, folder):
        if not offer.refusal:
            try:
                return _take(offer, folder, tell)
            except (NeedError, CommandError) as error:
                reasons.append(f"{offer.how}: {error}")
                continue
        reasons.append(f"{offer.how}: {offer.refusal}")
    raise NeedError(
        f"{component.title} cannot be had on this machine.",
        " ".join(reasons),
        "Put the program on PATH, or make one of these ways possible.",
    )


def tidy(folder: Path) -> None:
    """Remove the Go tool's caches and fetched toolchains, which only a build needs."""
    shutil.rmtree(folder / "go", ignore_errors=True)


def empty(folder: Path) -> int:
    """Remove the cache; the bytes that were freed."""
    size = sum(p.lstat().st_size for p in folder.rglob("*") if not p.is_dir())
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()
    return size


def emptied(folder: Path) -> str:
    """Remove the cache, and say so in a sentence; nothing if there was nothing in it."""
    freed = empty(folder)
    return f"Removed the cache {folder}: {freed / 1e6:.0f} MB." if freed else ""


def _offer(component: Component, way: Way, folder: Path) -> Offer:
    if isinstance(way, OnPath):
        return _on_path(component, way)
    if isinstance(way, Archive):
        return _archive(component, way, folder)
    return _module(component, way, folder)


def _on_path(component: Component, way: OnPath) -> Offer:
    how = "on PATH"
    for command in way.commands:
        found = shutil.which(command)
        if found is None:
            continue
        version = _version_of(found)
        have, limit = numbers(version), numbers(way.below)
        if have < numbers(way.least) or (limit and have >= limit):
            wanted = f"{way.least} or later" + (f", below {way.below}" if limit else "")
            refusal = f"{found} is {version or 'of an unknown version'}, not {wanted}."
            return Offer(component, way, how, found, refusal=refusal)
        return Offer(component, way, how, found, f"version {version}", Path(found), ready=True)
    return Offer(component, way, how, "", refusal=f"no {' or '.join(way.commands)}.")


def _archive(component: Component, way: Archive, folder: Path) -> Offer:
    arch = archives.architecture(way.sha256)
    url = way.url.format(version=component.version, arch=arch or platform.machine())
    if not arch:
        return Offer(component, way, "archive", url, refusal=f"none for {platform.machine()}.")
    program = _place(component, way.sha256[arch], folder)
    size = f"{way.fetch_mb} MB to fetch" if way.fetch_mb else ""
    return _cached(Offer(component, way, "archive", url, size, program))


def _module(component: Component, way: Module, folder: Path) -> Offer:
    program = _place(component, key(component, way), folder)
    facts = {
        f"fetch {way.fetch_mb} MB": way.fetch_mb,
        f"{way.minutes} min": way.minutes,
        f"{way.binary_mb} MB": way.binary_mb,
    }
    size = ", ".join(text for text, known in facts.items() if known)
    where = way.package if way.package != "." else f"modules/{component.name}"
    offer = Offer(component, way, "Go module", where, size, program)
    if program.exists():
        return _cached(offer)
    go = toolchain.choose(component.modules / component.name / "go.mod")
    size = "; ".join(filter(None, (size, toolchain.to_fetch(go, folder))))
    return replace(offer, refusal=go.refusal, size=size)


def _cached(offer: Offer) -> Offer:
    assert offer.program is not None
    if not offer.program.exists():
        return offer
    size = f"{offer.program.stat().st_size / 1e6:.0f} MB"
    return replace(offer, how="cache", where=str(offer.program), size=size, ready=True)


def key(component: Component, way: Module) -> str:
    """The sha256 of what a module's program is made from: its files and what the catalog says."""
    digest = hashlib.sha256(f"{component.version} {way.package} {way.stamp} {way.tags}".encode())
    for path in sorted((component.modules / component.name).iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _place(component: Component, hash_: str, folder: Path) -> Path:
    name = f"{component.name}-{component.version}-{hash_[:12]}"
    return folder / "bin" / name / component.name


def _take(offer: Offer, folder: Path, tell: Tell) -> Path:
    assert offer.program is not None
    if offer.ready:
        return offer.program
    size = f" ({offer.size})" if offer.size else ""
    tell(f"{offer.component.title} {offer.component.version}: {offer.how} {offer.where}{size}")
    with _draft(folder) as draft:
        if isinstance(offer.way, Archive):
            made = _download(offer, offer.way, draft)
        else:
            assert isinstance(offer.way, Module)
            made = _build(offer.component, offer.way, draft, folder)
        offer.program.parent.mkdir(parents=True, exist_ok=True)
        made.chmod(0o755)
        made.rename(offer.program)  # whole or not at all
    return offer.program


def _draft(folder: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix="draft-", dir=folder)
    except OSError as error:
        raise NeedError(
            f"The cache {folder} cannot be written: {error.strerror}.",
            next_step="Make room, or point XDG_CACHE_HOME to a folder that can be written.",
        ) from error


def _download(offer: Offer, way: Archive, draft: str) -> Path:
    arch = archives.architecture(way.sha256)
    archive = archives.fetch(offer.where, way.sha256[arch], Path(draft), "catalog")
    return archives.program(archive, way.member.format(version=offer.component.version, arch=arch))


def _build(component: Component, way: Module, draft: str, folder: Path) -> Path:
    source = Path(draft) / "module"
    shutil.copytree(component.modules / component.name, source)
    flags = "-s -w" + (f" -X {way.stamp}={component.version}" if way.stamp else "")
    argv = ["nice", "-n", "19", "go", "build", "-mod=readonly", "-trimpath", "-ldflags", flags]
    argv += ["-tags", ",".join(way.tags)] if way.tags else []
    go = toolchain.choose(source / "go.mod")
    program = Path(draft) / "program"
    processes.run(
        [*argv, "-o", str(program), way.package],
        cwd=source, env=toolchain.environment(go, folder), timeout=_BUILD_SECONDS,
    )  # fmt: skip
    return program


def _version_of(program: str) -> str:
    done = processes.run([program, "--version"], check=False, timeout=20)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found[0] if found else ""
