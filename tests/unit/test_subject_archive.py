"""What comes in a release archive: pinned by one sha256 for each architecture, got once."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.collectors import resolve
from harness.errors import ComponentError, HarnessError, InputError, NeedError, UnavailableError
from harness.linux import processes
from harness.node import answers, subject_source
from harness.plan import definitions
from harness.stack import archives
from harness.targets import local, ssh
from harness.targets.kubernetes import target as cluster
from harness.wire import codec, folder_lock
from harness.wire.subject import Subject
from tests import waiting
from tests.unit import defined
from tests.unit.serving import Site, packed, serving

TOML = """
name = "mine"
purpose = "Comes in an archive"
kind = "process"
command = ["{home}/mine-1.4.2/bin/mine"]

[source]
way = "archive"
name = "mine"
version = "1.4.2"
url = "SITE/v{version}/mine-{version}-{arch}.tar.gz"
member = "mine-{version}/bin/mine"
sha256 = { amd64 = "HASH", x86_64 = "HASH", arm64 = "HASH", aarch64 = "HASH" }
"""
PROGRAM = b"#!/bin/sh\necho mine\n"
FILES = {"mine-1.4.2/bin/mine": PROGRAM, "mine-1.4.2/read.me": b"words"}

Made = Callable[..., Subject]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return defined.cache(tmp_path, monkeypatch)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "site" / "v1.4.2").mkdir(parents=True)
    with serving(tmp_path / "site") as there:
        yield there


@pytest.fixture
def made(tmp_path: Path, site: Site) -> Made:
    """The subject of a definition whose archive has these files."""

    def make(files: dict[str, bytes] = FILES, mode: int = 0o755, sha256: str = "") -> Subject:
        archive = tmp_path / "site" / "v1.4.2" / "mine-1.4.2-amd64.tar.gz"
        found = packed(archive, files, mode)
        return _read(tmp_path, TOML.replace("SITE", site.url).replace("HASH", sha256 or found))

    return make


def _read(folder: Path, text: str) -> Subject:
    path = folder / f"mine-{len(list(folder.glob('*.toml')))}.toml"  # one is read once
    path.write_text(text)
    found = resolve(str(path))
    kept = json.loads(json.dumps(definitions.to_dict(found)))
    assert definitions.from_dict(kept) == found
    assert found.subject is not None
    return found.subject


def test_it_is_got_once_and_whole(made: Made, site: Site, cache: Path) -> None:
    subject = made()
    for _ in range(2):
        subject_source.get("mine", subject, "")
    assert site.asked == ["/v1.4.2/mine-1.4.2-amd64.tar.gz"]
    home = subject_source.home(subject.source)
    assert list(cache.iterdir()) == [home]
    assert subject_source.values(subject.source)["home"] == str(home)
    assert os.access(home / "mine-1.4.2" / "bin" / "mine", os.X_OK)
    assert (home / "mine-1.4.2" / "read.me").read_text() == "words"
    assert subject_source.version(subject.source) == "mine 1.4.2, its release archive"
    (home / "mine-1.4.2" / "bin" / "mine").unlink()
    subject_source.get("mine", subject, "")
    assert len(site.asked) == 2
    assert (home / "mine-1.4.2" / "bin" / "mine").read_bytes() == PROGRAM


def test_two_that_want_it_at_once_get_it_once(
    made: Made, site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one is fetching when the second one asks, which finds a whole one then."""
    subject, fetch = made(), archives.fetch
    other = threading.Thread(target=subject_source.get, args=("mine", subject, ""))
    waits = threading.Event()
    take = folder_lock.take

    def taken(descriptor: int, **how: Any) -> bool:
        if not (found := take(descriptor, **how)):
            waits.set()
        return found

    def slow(*about: Any) -> Path:
        if not other.ident:
            other.start()
            assert waits.wait(waiting.PATIENCE_SECONDS)
        return fetch(*about)

    monkeypatch.setattr(folder_lock, "take", taken)
    monkeypatch.setattr(archives, "fetch", slow)
    subject_source.get("mine", subject, "")
    (home,) = cache.iterdir()
    inode = home.stat().st_ino
    other.join()
    assert len(site.asked) == 1
    assert home.stat().st_ino == inode


def test_one_that_waits_too_long_for_another_says_so(
    made: Made, site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject_source, "WAIT_SECONDS", 0.0)
    subject = made()
    with subject_source._alone(NeedError):
        told = _refused(subject, cache)
    assert told["class"] == UnavailableError.__name__
    assert "another process has been getting one for 0 s" in told["what"]
    assert site.asked == []


def test_what_was_got_goes_whole_but_not_while_one_is_got(
    made: Made, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert subject_source.emptied() == ""
    assert not cache.parent.exists()
    subject_source.get("mine", made(), "")
    monkeypatch.setattr(subject_source, "WAIT_SECONDS", 0.0)
    with subject_source._alone(NeedError), pytest.raises(NeedError) as error:
        subject_source.emptied()
    assert "cannot be removed: another process has been getting one" in error.value.what
    assert len(list(cache.iterdir())) == 1
    assert subject_source.emptied().startswith(f"Removed the cache {cache}: ")
    assert not cache.parent.exists()


def test_a_file_system_without_locks_gives_it_all_the_same(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (errno.ENOLCK, errno.EOPNOTSUPP):
        monkeypatch.setattr(fcntl, "flock", _failing(number))
        subject_source.get("mine", made(), "")
        assert subject_source.emptied()


def test_a_cache_that_cannot_be_had_is_no_fault_of_who_gives_it(
    made: Made, cache: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", _failing(errno.EIO))
    told = _refused(made(), cache)
    assert told["class"] == UnavailableError.__name__
    assert f"the cache {cache} cannot be written: Input/output error." in told["what"]
    cache.rmdir()
    cache.write_text("Somebody's file.")
    with pytest.raises(UnavailableError, match=f"the cache {cache} cannot be written: File exists"):
        subject_source.get("mine", made(), "")
    assert site.asked == []


def _failing(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_what_waiting_took_is_not_left_for_fetching(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that only waiting for another process moves."""
    now, had, fetch = [1000.0], list[float](), archives.fetch
    clock = SimpleNamespace(monotonic=lambda: now[0])
    open_locked = folder_lock.open_locked

    def waited(*about: Any) -> int:
        now[0] += 100.0
        return open_locked(*about)

    def fetched(*about: Any) -> Path:
        had.append(about[-1])
        return fetch(*about)

    monkeypatch.setattr(subject_source, "time", clock)
    monkeypatch.setattr(folder_lock, "open_locked", waited)
    monkeypatch.setattr(archives, "fetch", fetched)
    subject_source.get("mine", made(), "")
    assert had == [subject_source.GET_SECONDS - 100.0]


@pytest.mark.parametrize("target", [local, ssh, cluster])
def test_a_node_answers_in_time_that_it_could_not_be_had(target: Any) -> None:
    """Its connection and its last byte may come late, or a killed program may be slow to end."""
    last = max(2 * archives.FETCH_SECONDS, processes.KILLED_SECONDS)
    assert subject_source.GET_SECONDS + last < target.ANSWER_SECONDS


def test_what_was_got_stays_when_another_try_fails(made: Made, site: Site, cache: Path) -> None:
    """A file of it was taken away, and its site is not there."""
    subject = made()
    subject_source.get("mine", subject, "")
    home = subject_source.home(subject.source)
    (home / "mine-1.4.2" / "bin" / "mine").unlink()
    gone = replace(subject.source, url=f"{site.url}/gone.tar.gz")
    with pytest.raises(UnavailableError):
        subject_source.get("mine", replace(subject, source=gone), "")
    assert (home / "mine-1.4.2" / "read.me").read_text() == "words"


def test_drafts_of_those_that_were_killed_go(made: Made, cache: Path) -> None:
    subject = made()
    cache.mkdir(parents=True)
    Path(tempfile.mkdtemp(prefix="draft-", dir=cache), "half").write_text("half")
    (cache / "draft-tool-1.0-0123456789ab").mkdir()  # somebody's collector
    subject_source.get("mine", subject, "")
    home = subject_source.home(subject.source)
    assert sorted(cache.iterdir()) == sorted([home, cache / "draft-tool-1.0-0123456789ab"])


def test_a_version_leads_out_of_no_folder(made: Made, cache: Path) -> None:
    source = replace(made().source, version="../../1 4", name="../mine")
    assert subject_source.home(source).parent == cache


def test_another_version_of_the_archive_is_another_folder(made: Made) -> None:
    one = made()
    subject_source.get("mine", one, "")
    two = made({**FILES, "mine-1.4.2/more": b""})
    subject_source.get("mine", two, "")
    assert subject_source.home(one.source) != subject_source.home(two.source)


def _refused(subject: Subject, cache: Path) -> dict[str, Any]:
    """What a node says of it, which has kept nothing."""
    asked = {"mine": {"subject": codec.dump(subject), "lock": ""}}
    (told,) = answers.obtain(asked).values()
    assert not cache.exists() or list(cache.iterdir()) == []
    return told


def test_one_that_differs_is_thrown_away(made: Made, cache: Path) -> None:
    told = _refused(made(sha256="f" * 64), cache)
    assert told["class"] == ComponentError.__name__
    assert "mine-1.4.2-amd64.tar.gz is not what the definition names" in told["what"]
    assert "f" * 64 in told["why"]


def test_one_that_is_not_there_says_where_it_was_looked_for(made: Made, cache: Path) -> None:
    subject = made()
    gone = replace(subject.source, url=subject.source.url.replace("mine-", "other-"))
    told = _refused(replace(subject, source=gone), cache)
    assert told["class"] == UnavailableError.__name__
    assert "/v1.4.2/other-1.4.2-amd64.tar.gz cannot be fetched: HTTP Error 404" in told["what"]


def test_a_machine_that_it_is_not_for_is_named(
    made: Made, site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "sparc64")
    told = _refused(made(), cache)
    assert told["class"] == UnavailableError.__name__
    assert "its archive is for amd64, x86_64, arm64, aarch64, not for sparc64" in told["what"]
    assert site.asked == []


def test_without_room_it_says_how_much_is_lacking(
    made: Made, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=7))
    told = _refused(made(), cache)
    assert told["class"] == UnavailableError.__name__
    assert "There is no room for http" in told["what"]
    assert "and 7 are free" in told["what"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"mine-1.4.2/bin/other": PROGRAM}, "has no file mine-1.4.2/bin/mine. At its top there"),
        ({"mine-1.4.2/bin/mine/x": PROGRAM}, "has no file mine-1.4.2/bin/mine"),
        ({**FILES, "../out": b""}, "'../out' would lie outside of its folder"),
    ],
)
def test_an_archive_of_something_else_is_refused(
    files: dict[str, bytes], words: str, made: Made, cache: Path
) -> None:
    told = _refused(made(files), cache)
    assert told["class"] == InputError.__name__
    assert words in str(HarnessError.from_dict(told))


def test_a_program_is_executable_and_what_is_loaded_into_a_service_need_not_be(
    made: Made, cache: Path
) -> None:
    subject = made(mode=0o644)
    assert "mine-1.4.2/bin/mine in mine-1.4.2-amd64.tar.gz is not executable" in _refused(
        subject, cache
    )["what"]  # fmt: skip
    subject_source.get("mine", replace(subject, kind="in-process"), "")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("sha256 =", "# ", "source lacks sha256, which archive needs"),
        ("sha256 = {", "sha256 = {} #", "source lacks sha256, which archive needs"),
        ("url =", "# ", "source lacks url, which archive needs"),
        ("sha256 = {", 'sha256 = "HASH" #', "source.sha256 is a table of hashes by architecture"),
        ('amd64 = "HASH"', 'amd64 = "HASH0"', "source.sha256 of amd64 is not one"),
        ('amd64 = "HASH"', 'amd64 = "latest"', "source.sha256 of amd64 is not one"),
        ("https://", "ftp://", "source.url is an address of a file, by http or https"),
        ("https://", "https://me:secret@", "source.url is an address of a file"),
        (".tar.gz", "/", "source.url is an address of a file"),
        ("-{arch}", "-{os}", "source.url has unknown placeholders: os"),
        ('"mine-{version}/bin', '"../bin', "source.member is a file in the archive"),
        ('"mine-{version}/bin', '"/bin', "source.member is a file in the archive"),
    ],
)
def test_a_definition_that_pins_nothing_is_refused(
    old: str, new: str, words: str, tmp_path: Path
) -> None:
    text = TOML.replace("SITE", "https://example.org")
    assert old in text
    with pytest.raises(InputError) as error:
        _read(tmp_path, text.replace(old, new).replace("HASH", "0" * 64))
    assert words in error.value.what
