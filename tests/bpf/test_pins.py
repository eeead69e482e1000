"""What somebody else's collector left pinned is found by its programs, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.linux import bpf_pins, bpf_programs, mount, syscall
from harness.meters import bpfstats
from harness.node import leavings

pytestmark = pytest.mark.bpf


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A BPF file system of our own, so that nobody's pins are in it."""
    point = tmp_path / "bpf"
    point.mkdir()
    syscall.mount("bpf", point)
    monkeypatch.setattr(mount, "find", lambda _: point)
    yield point
    syscall.unmount(point, detach=True)


def _pinned(path: Path) -> int:
    """A program that only its pin holds; its id."""
    descriptor = syscall.load_program(syscall.SOCKET_FILTER, name="left_behind")
    try:
        syscall.pin(descriptor, path)
        return bpfstats.read(descriptor).id
    finally:
        os.close(descriptor)


def test_pins_of_its_programs_are_removed_and_others_stay(pins: Path) -> None:
    (pins / "theirs").mkdir()
    (pins / "shared").mkdir()
    mine = {_pinned(pins / "theirs/a"), _pinned(pins / "shared/b")}
    other = _pinned(pins / "shared/c")
    removed = bpf_pins.remove(mine)
    assert sorted(removed) == [pins / "shared/b", pins / "theirs/a"]
    assert bpf_programs.remaining(mine) == set()
    assert bpf_programs.ids() & {other}
    assert not (pins / "theirs").exists()
    assert bpf_pins.remove(()) == []
    assert (pins / "shared/c").exists()


def test_a_folder_with_what_is_pinned_in_it_is_removed_whole(pins: Path) -> None:
    (pins / "named").mkdir()
    program = _pinned(pins / "named/a")
    assert leavings.remove(pins / "named")
    assert not (pins / "named").exists()
    assert bpf_programs.remaining({program}) == set()
