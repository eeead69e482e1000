"""Gets other people's collectors, pinned, into a cache; for `answers`, `needs` and their agents.

Below `supply.subjects()`: a venv, a folder of modules or of an archive, or a jar of its own for
each, never into the service's packages.
Registries are asked through their own clients, as they are set up on the machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from harness.errors import (
    CommandError,
    ComponentError,
    HarnessError,
    InputError,
    NeedError,
    UnavailableError,
)
from harness.linux import processes
from harness.stack import archives, supply
from harness.wire import folder_lock
from harness.wire.subject import Kind, Source, Subject

GET_SECONDS = 540.0  # in all, so that a node has time to unpack it and to answer
WAIT_SECONDS = 120.0  # of these, for another process that gets one
ASK_SECONDS = 20.0
_DRAFTS = "draft-????????"  # as tempfile names them; homes have longer names
_SHOWN = 8  # of what an archive has at its top
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
_WHOLE = "whole"  # the file that is written last into a venv, or beside modules
_VERSION = re.compile(r"\d+\.\d+(?:\.\d+)*\S*")
TELLERS = {
    "pypi": "PyPI", "npm": "npm", "maven": "Maven Central", "path": "on PATH",
    "archive": "its release archive",
}  # fmt: skip


def home(source: Source) -> Path:
    """The folder of what a source brings; a venv is of one version of Python."""
    mark = (source.sha256 or _archive_hash(source))[:12]
    if source.way == "pypi":
        mark += "-py{}.{}".format(*sys.version_info)
    name, version = (
        re.sub(r"[^\w.-]+", "-", each).strip("-") for each in (source.name, source.version)
    )
    return supply.subjects() / f"{name}-{version}-{mark}"


def values(source: Source) -> Mapping[str, str]:
    """What placeholders of a definition become: `home`, and in it `site` or `jar`."""
    folder = home(source)
    site = folder / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
    return {"home": str(folder), "site": str(site), "jar": str(_jar(source))}


def version(source: Source, said: str = "") -> str:
    """What is pinned, or what the program says of itself, asked or in its log; how it was had."""
    told = source.version
    if source.way == "path" and source.tells:
        found = re.search(source.tells, said, re.MULTILINE)
        told = found[1] if found else "of an unknown version"
    elif source.way == "path":
        told = _asked(source) or "of an unknown version"
    return f"{source.name} {told}, {TELLERS[source.way]}"


def _asked(source: Source) -> str:
    """The version that a program says of itself when asked; empty if it says none in time."""
    with tempfile.TemporaryDirectory(prefix="harness-") as place:  # some write where they are
        argv = [source.name, source.asks]
        try:
            done = processes.run(argv, check=False, timeout=ASK_SECONDS, cwd=Path(place))
        except CommandError:
            return ""
    found = _VERSION.search(done.stdout + done.stderr)
    return found[0] if found else ""


def refusal(name: str, subject: Subject) -> UnavailableError | None:
    """Why it cannot be had on this machine; None if it can, or is there. It changes nothing."""
    source = subject.source
    if source.way == "none":
        return _unavailable(name, source.why, "Measure it where it can be had, or leave it out.")
    if source.way == "path" and shutil.which(source.name) is None:
        how = f" (apt-get install {source.package})" if source.package else ""
        why = f"there is no program {source.name} on PATH"
        why += f": {source.why}" if source.why else "."
        return _unavailable(name, why, f"Install it{how}, or leave it out.")
    if source.way == "pypi" and not _is_there(source) and not importlib.util.find_spec("ensurepip"):
        return _unavailable(
            name, "this Python can make no venv.", "Install it (apt-get install python3-venv)."
        )
    if source.way == "npm" and not _is_there(source) and shutil.which("npm") is None:
        return _unavailable(
            name,
            "it is a package of npm's, and there is no npm on PATH.",
            "Install it (apt-get install npm), or leave it out.",
        )
    if source.way == "maven" and not _is_there(source) and shutil.which("mvn") is None:
        return _unavailable(
            name,
            "it is a jar of Maven's, and there is no mvn on PATH.",
            f"Install it (apt-get install maven), or put the jar into {home(source)}.",
        )
    if source.way == "archive" and not _archive_hash(source):
        return _unavailable(
            name,
            f"its archive is for {', '.join(source.hashes)}, not for {platform.machine()}.",
            "Add the sha256 of its archive for this machine to the definition, or leave it out.",
        )
    return None


def get(name: str, subject: Subject, lock: str) -> None:
    """Have it there, fetched if it is not yet; UnavailableError if it cannot be had in time.

    ComponentError if what came is not what the definition names, InputError if it is no archive.
    """
    source = subject.source
    if refused := refusal(name, subject):
        raise refused
    if not source.is_fetched or _is_there(source):
        return
    deadline = time.monotonic() + GET_SECONDS
    with _alone(partial(_unavailable, name)):
        try:
            if not _is_there(source):  # by now: another process may have got it
                _begin(subject, lock, deadline)
        except (CommandError, NeedError, OSError) as error:
            raise _unavailable(
                name,
                f"{TELLERS[source.way]} did not give it: {error}",
                "Try it again, or leave it out.",
            ) from error


def emptied() -> str:
    """Remove all that was got, and say so in a sentence; nothing if there was nothing.

    NeedError if another process gets one for too long.
    """
    if not supply.subjects().is_dir():
        return ""
    with _alone(_kept):
        return supply.emptied(supply.subjects())


@contextlib.contextmanager
def _alone(refused: Callable[[str, str], HarnessError]) -> Iterator[None]:
    """The only one that gets any; drafts that are there are of those that were killed.

    What is `refused`, told why and what to do, if another one is at it for too long, or there can
    be no folder.
    """
    folder = supply.subjects()
    try:
        descriptor = folder_lock.open_locked(folder, WAIT_SECONDS)
    except TimeoutError as error:
        raise refused(
            f"another process has been getting one for {WAIT_SECONDS:.0f} s.",
            "Try it again when that has ended.",
        ) from error
    except OSError as error:
        raise refused(
            f"the cache {folder} cannot be written: {error.strerror}.",
            "Make room, or point XDG_CACHE_HOME to a folder that can be written.",
        ) from error
    try:
        for draft in folder.glob(_DRAFTS):
            shutil.rmtree(draft, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)


def _left(deadline: float) -> float:
    """Seconds, for a sentence too."""
    return max(0.0, round(deadline - time.monotonic(), 1))


def _begin(subject: Subject, lock: str, deadline: float) -> None:
    """What is made at its place does not stay there by halves; the others are drafts until then."""
    try:
        _GETTING[subject.source.way](subject, lock, deadline)
    except BaseException:
        if subject.source.is_locked:
            shutil.rmtree(home(subject.source), ignore_errors=True)
        raise


def _install(subject: Subject, lock: str, deadline: float) -> None:
    """A venv with what the lock pins; its scripts know where it is, so that it is not moved."""
    folder = home(subject.source)
    shutil.rmtree(folder, ignore_errors=True)  # one that was begun
    processes.run([sys.executable, "-m", "venv", str(folder)], timeout=_left(deadline))
    with tempfile.TemporaryDirectory(prefix="harness-") as place:
        file = Path(place) / "lock"
        file.write_text(lock)
        python = str(folder / "bin" / "python")
        argv = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        argv += ["--require-hashes", "--only-binary", ":all:", "-r", str(file)]
        processes.run(argv, timeout=_left(deadline))
    (folder / _WHOLE).touch()


def _install_modules(subject: Subject, lock: str, deadline: float) -> None:
    """The modules that a package-lock.json pins; none of them runs a script of its own."""
    folder = home(subject.source)
    shutil.rmtree(folder, ignore_errors=True)  # one that was begun
    folder.mkdir()
    (folder / "package-lock.json").write_text(lock)
    wanted = json.loads(lock)["packages"][""]  # as it was asked for when the lock was made
    (folder / "package.json").write_text(json.dumps({**wanted, "private": True}))
    argv = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    processes.run(argv, cwd=folder, timeout=_left(deadline))
    (folder / _WHOLE).touch()


def _fetch(subject: Subject, _lock: str, deadline: float) -> None:
    source = subject.source
    with tempfile.TemporaryDirectory(prefix="draft-", dir=home(source).parent) as draft:
        argv = [
            "mvn",
            "--batch-mode",
            "--quiet",
            _COPY,
            f"-Dartifact={source.name}:{source.version}",
        ]
        processes.run([*argv, f"-DoutputDirectory={draft}"], timeout=_left(deadline))
        jar = Path(draft) / _jar(source).name
        found = hashlib.sha256(jar.read_bytes()).hexdigest()
        if found != source.sha256:
            raise ComponentError(
                f"{source.name} {source.version} is not what its definition names.",
                f"Its sha256 is {found}, {source.sha256} was expected; it is thrown away.",
                "Find out why it changed before you change the definition.",
            )
        home(source).mkdir(exist_ok=True)
        jar.rename(_jar(source))  # whole or not at all


def _unpack(subject: Subject, _lock: str, deadline: float) -> None:
    """The whole of a release archive; InputError if its program is not in it."""
    source = subject.source
    with tempfile.TemporaryDirectory(prefix="draft-", dir=home(source).parent) as draft:
        url, sha256 = _filled(source, source.url), _archive_hash(source)
        archive = archives.fetch(url, sha256, Path(draft), "definition", _left(deadline))
        folder = Path(draft) / "unpacked"
        archives.unpack(archive, folder)
        _require_program(archive.name, folder, _filled(source, source.member), subject.kind)
        shutil.rmtree(home(source), ignore_errors=True)  # one of which files were taken away
        folder.rename(home(source))  # whole or not at all


def _require_program(archive: str, folder: Path, member: str, kind: Kind) -> None:
    """What is loaded into a service need not be executable."""
    if not (folder / member).is_file():
        there = ", ".join(sorted(os.listdir(folder))[:_SHOWN]) or "no files"
        raise InputError(
            f"{archive} has no file {member}.",
            f"At its top there are: {there}.",
            "Correct `member` of the definition.",
        )
    if kind == "process" and not os.access(folder / member, os.X_OK):
        raise InputError(
            f"{member} in {archive} is not executable.",
            "A process is started from it.",
            "Name the program as `member` of the definition.",
        )


def _filled(source: Source, text: str) -> str:
    arch = archives.architecture(source.hashes)
    return text.replace("{version}", source.version).replace("{arch}", arch)


def _archive_hash(source: Source) -> str:
    """The sha256 of the archive for this machine; empty if there is none."""
    return source.hashes.get(archives.architecture(source.hashes), "")


_GETTING: Mapping[str, Callable[[Subject, str, float], None]] = {
    "pypi": _install,
    "npm": _install_modules,
    "maven": _fetch,
    "archive": _unpack,
}


def _jar(source: Source) -> Path:
    return home(source) / f"{source.name.rpartition(':')[2]}-{source.version}.jar"


def _is_there(source: Source) -> bool:
    if source.way == "archive":
        return (home(source) / _filled(source, source.member)).is_file()
    return (home(source) / _WHOLE if source.is_locked else _jar(source)).is_file()


def _unavailable(name: str, why: str, next_step: str) -> UnavailableError:
    what = f"Collector {name!r} cannot be had here: {why}"
    return UnavailableError(what, "", next_step, collector=name)


def _kept(why: str, next_step: str) -> NeedError:
    return NeedError(f"Other people's collectors cannot be removed: {why}", next_step=next_step)
