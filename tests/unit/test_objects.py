"""Where BPF objects are found: in a checkout, on a host, in what a wheel has installed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from harness.node import doctor
from harness.wire import objects


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One program, built."""
    built = tmp_path / "bpf" / ".output"
    built.mkdir(parents=True)
    (tmp_path / "bpf" / "Makefile").write_text("all:")
    (tmp_path / "bpf" / "http.h").write_text("header")
    (tmp_path / "bpf" / "http.bpf.c").write_text("source")
    (built / "http.bpf.o").write_text("object")
    sums = [f"{hashlib.sha256(t).hexdigest()}  {name}" for t, name in (
        (b"source", "http.bpf.c"), (b"header", "http.h"),
    )]  # fmt: skip
    (built / "http.bpf.o.sha256").write_text("\n".join(sums) + "\n")
    return tmp_path


def test_of_a_checkout_those_count_that_were_built_there(checkout: Path) -> None:
    assert objects.folder(checkout) == checkout / "bpf" / ".output"
    assert objects.outdated(checkout) == []


def test_a_checkout_in_which_nothing_was_built_takes_none_from_elsewhere(checkout: Path) -> None:
    for path in (checkout / "bpf" / ".output").iterdir():
        path.unlink()
    (checkout / "bpf" / ".output").rmdir()
    assert objects.folder(checkout) == checkout / "bpf" / ".output"
    assert objects.outdated(checkout) == ["http"]


@pytest.mark.parametrize("name", ["http.bpf.c", "http.h"])
def test_what_an_object_is_made_of_is_told_by_content(checkout: Path, name: str) -> None:
    (checkout / "bpf" / name).write_text("other")
    os.utime(checkout / "bpf" / name, (1, 1))
    assert objects.outdated(checkout) == ["http"]


@pytest.mark.parametrize("name", ["http.bpf.o", "http.bpf.o.sha256"])
def test_half_of_what_was_built_is_not_enough(checkout: Path, name: str) -> None:
    (checkout / "bpf" / ".output" / name).unlink()
    assert objects.outdated(checkout) == ["http"]


def test_what_the_agent_does_in_c_is_told_like_an_object(checkout: Path) -> None:
    (checkout / "bpf" / "dataplane.c").write_text("source")
    assert objects.outdated(checkout) == ["dataplane.so"]
    built = checkout / "bpf" / ".output"
    (built / "dataplane.so").write_text("library")
    sums = f"{hashlib.sha256(b'source').hexdigest()}  dataplane.c\n"
    (built / "dataplane.so.sha256").write_text(sums)
    assert objects.outdated(checkout) == []
    assert objects.built(checkout) == [built / "dataplane.so", built / "http.bpf.o"]


def test_on_a_host_there_are_objects_without_sources(checkout: Path) -> None:
    for name in ("Makefile", "http.h", "http.bpf.c"):
        (checkout / "bpf" / name).unlink()
    assert objects.folder(checkout) == checkout / "bpf" / ".output"
    assert objects.outdated(checkout) == []


def test_a_wheel_has_those_of_each_processor(tmp_path: Path) -> None:
    folder = objects.folder(tmp_path)
    assert folder == tmp_path / "harness" / "agent" / "objects" / os.uname().machine
    assert objects.outdated(tmp_path) == []


def _told(monkeypatch: pytest.MonkeyPatch, root: Path) -> doctor.Finding:
    monkeypatch.setattr(doctor, "_ROOT", root)
    (found,) = [each for each in doctor.check() if each.name == "collectors"]
    return found


def test_the_doctor_names_what_is_of_other_sources(
    monkeypatch: pytest.MonkeyPatch, checkout: Path
) -> None:
    assert _told(monkeypatch, checkout).status == "pass"
    (checkout / "bpf" / "http.h").write_text("other")
    found = _told(monkeypatch, checkout)
    assert (found.status, found.fix) == ("warn", "Run `make bpf`.")
    assert found.detail.endswith("of other sources: http")


def test_the_doctor_says_where_a_wheel_has_none_for_the_processor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert _told(monkeypatch, tmp_path).status == "fail"
