"""What a release archive brings: all of it, within its folder, or a sentence that says why not."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import shutil
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.errors import InputError, NeedError
from harness.stack import archives
from tests.unit.serving import packed, serving, trickling

Entry = tuple[str, bytes, str]
"""Its name, its type by tarfile's constants, where it leads."""


def _tar(path: Path, *entries: Entry) -> Path:
    with tarfile.open(path, "w:gz") as bundle:
        for name, kind, leads in entries:
            told = tarfile.TarInfo(name)
            told.type, told.linkname, told.mode = kind, leads, 0o4755
            content = b"content" if kind == tarfile.REGTYPE else b""
            told.size = len(content)
            bundle.addfile(told, io.BytesIO(content))
    return path


FILE, FOLDER, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def test_all_of_it_is_unpacked_with_its_links_and_modes(tmp_path: Path) -> None:
    archive = _tar(
        tmp_path / "a.tar.gz",
        ("./", FOLDER, ""),
        ("./bin/tool", FILE, ""),
        ("lib", FOLDER, ""),
        ("lib/tool", LINK, "../bin/tool"),
        ("lib/same", HARD, "bin/tool"),
    )
    archives.unpack(archive, tmp_path / "there")
    found = {str(path.relative_to(tmp_path / "there")) for path in (tmp_path / "there").rglob("*")}
    assert found == {"bin", "bin/tool", "lib", "lib/tool", "lib/same"}
    for name in ("bin/tool", "lib/tool", "lib/same"):
        assert (tmp_path / "there" / name).read_bytes() == b"content"
    assert (tmp_path / "there" / "bin" / "tool").stat().st_mode & 0o7777 == 0o755  # no setuid


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([("../out", FILE, "")], "'../out' would lie outside of its folder"),
        ([("a/../../out", FILE, "")], "would lie outside of its folder"),
        ([("OUT", FILE, "")], "would lie outside of its folder"),  # its whole path
        ([("a", LINK, ".."), ("a/out", FILE, "")], "'a/out' would lie outside of its folder"),
        ([("a", LINK, ".."), ("a/out", FOLDER, "")], "'a/out' would lie outside of its folder"),
        ([("a", LINK, "OUT"), ("a", FILE, "")], "cannot be unpacked"),  # it is written into no link
        ([("a", LINK, "../out")], "'a' would lie outside of its folder"),
        ([("a", LINK, "OUT")], "'a' would lie outside of its folder"),
        ([("a", LINK, "b/.."), ("b", LINK, ".")], "'a' would lie outside of its folder"),
        ([("a", HARD, "../kept")], "'../kept' would lie outside of its folder"),
        ([("b", LINK, "../kept"), ("a", HARD, "b")], "'a' would lie outside of its folder"),
        ([("a", tarfile.CHRTYPE, "")], "'a' is neither a file, a folder nor a link"),
        ([("a", tarfile.FIFOTYPE, "")], "'a' is neither a file, a folder nor a link"),
    ],
)
def test_what_would_lie_elsewhere_is_refused_and_never_written(
    entries: list[Entry], words: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    told = [
        (name.replace("OUT", str(out)), kind, leads.replace("OUT", str(out)))
        for name, kind, leads in entries
    ]
    (tmp_path / "kept").write_text("mine")
    archive = _tar(tmp_path / "a.tar.gz", *told)
    with pytest.raises(InputError) as error:
        archives.unpack(archive, tmp_path / "there")
    assert words in error.value.what
    assert not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "kept", "there"]
    assert (tmp_path / "kept").read_text() == "mine"


def test_a_zip_is_unpacked_with_its_modes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        program = zipfile.ZipInfo("bin/tool")
        program.external_attr = 0o100755 << 16
        bundle.writestr(program, "content")
        bundle.writestr(zipfile.ZipInfo("empty/"), "")
        plain = zipfile.ZipInfo("read.me")
        plain.external_attr = 0x20  # as Windows makes them: no mode
        bundle.writestr(plain, "words")
    archives.unpack(tmp_path / "a.zip", tmp_path / "there")
    modes = {
        path.name: path.stat().st_mode & 0o777
        for path in (tmp_path / "there").rglob("*")
        if path.is_file()
    }
    assert modes == {"tool": 0o755, "read.me": 0o644}
    assert (tmp_path / "there" / "empty").is_dir()


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("../out", 0o100644, "would lie outside"),
        ("link", 0o120777, "is neither a file nor a folder"),
    ],
)
def test_of_a_zip_the_same_is_refused(name: str, mode: int, words: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        bundle.writestr(entry, "/etc/passwd")
    with pytest.raises(InputError, match=words):
        archives.unpack(tmp_path / "a.zip", tmp_path / "there")
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip"])
def test_what_is_no_archive_is_said_to_be_none(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("<html>Not found</html>")
    with pytest.raises(InputError, match=f"{name} cannot be unpacked"):
        archives.unpack(tmp_path / name, tmp_path / "there")


def _damaged(path: Path) -> None:
    """From the middle of what is packed on; a list of what is in it stays."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle:-200] = random.Random(7).randbytes(len(content) - 200 - middle)
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.xz", "a.zip"])
def test_one_that_is_damaged_is_said_to_be(name: str, tmp_path: Path) -> None:
    words = "".join(f"{number * 7919 % 10007} words\n" for number in range(5000)).encode()
    if name.endswith(".zip"):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as bundle:
            bundle.writestr("tool", words)
    else:
        with tarfile.open(tmp_path / name, "w:" + name[-2:]) as tar:  # type: ignore[call-overload]
            told = tarfile.TarInfo("tool")
            told.size = len(words)
            tar.addfile(told, io.BytesIO(words))
    _damaged(tmp_path / name)
    with pytest.raises(InputError, match=f"{name} cannot be unpacked"):
        archives.unpack(tmp_path / name, tmp_path / "there")
    with pytest.raises(InputError, match=f"{name} cannot be unpacked"):
        archives.program(tmp_path / name, "tool")


def test_a_name_that_no_file_can_have_is_no_crash(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        told = tarfile.TarInfo("tool")
        told.pax_headers = {"path": "to\0ol"}
        tar.addfile(told)
    with pytest.raises(InputError, match=r"a\.tar cannot be unpacked"):
        archives.unpack(tmp_path / "a.tar", tmp_path / "there")


def test_a_server_that_trickles_is_given_up(tmp_path: Path) -> None:
    """At its first bytes: all of them would take half a minute."""
    with (
        trickling(b"x", 0.1, 300) as url,
        pytest.raises(NeedError, match=r"did not come within 0 s: \d\d? bytes did"),
    ):
        archives.fetch(url, "f" * 64, tmp_path, "definition", 0.0)


def test_one_that_comes_by_pieces_is_whole(tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"abc" * 20).hexdigest()
    with trickling(b"abc", 0.001, 60) as url:
        archive = archives.fetch(url, sha256, tmp_path, "definition")
    assert archive.read_bytes() == b"abc" * 20


def test_a_disk_that_is_full_while_it_is_fetched_is_named(tmp_path: Path) -> None:
    """What is written goes to a device of the kernel that is always full."""
    (tmp_path / "site").mkdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "a.tar.gz").symlink_to("/dev/full")
    sha256 = packed(tmp_path / "site" / "a.tar.gz", {"tool": b"content"})
    with serving(tmp_path / "site") as site, pytest.raises(NeedError) as error:
        archives.fetch(f"{site.url}/a.tar.gz", sha256, tmp_path / "cache", "catalog")
    assert "There is no room for" in error.value.what
    assert str(tmp_path / "cache") in error.value.what
    assert "Make room" in error.value.next_step


def test_what_is_larger_than_the_disk_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "cache").mkdir()
    sha256 = packed(tmp_path / "site" / "a.tar.gz", {"tool": os.urandom(4096)})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4000))
    with serving(tmp_path / "site") as site, pytest.raises(NeedError) as error:
        archives.fetch(f"{site.url}/a.tar.gz", sha256, tmp_path / "cache", "catalog")
    assert "and 4000 are free" in error.value.why
    assert (tmp_path / "cache" / "a.tar.gz").stat().st_size == 0


def test_a_disk_that_is_full_while_it_is_unpacked_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = _tar(tmp_path / "a.tar.gz", ("tool", FILE, ""))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(archives, "_write", full)
    with pytest.raises(NeedError, match=r"There is no room for a\.tar\.gz"):
        archives.unpack(archive, tmp_path / "there")


@pytest.mark.parametrize(
    ("machine", "known", "found"),
    [
        ("x86_64", {"amd64": "", "arm64": ""}, "amd64"),
        ("aarch64", {"amd64": "", "arm64": ""}, "arm64"),
        ("x86_64", {"x86_64": ""}, "x86_64"),  # as some projects name theirs
        ("riscv64", {"riscv64": ""}, "riscv64"),
        ("riscv64", {"amd64": ""}, ""),
    ],
)
def test_a_machine_goes_by_the_name_that_the_archive_has(
    machine: str, known: dict[str, str], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert archives.architecture(known) == found
