"""Profiles of a trial become one: merged, named as far as can be, and with Python in its place."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

import pytest

from harness.agent import pprof
from harness.agent.elf import Elf
from harness.agent.memory import mappings
from harness.agent.pprof import Builder, Frame, Mapping
from harness.node import symbols
from harness.report import flamegraph

BINARY = Mapping(0x400000, 0x500000, 0, "/usr/bin/server")
HOT = Frame(name="hot", file="/srv/app.py", line=6)
MAIN = Frame(name="main", file="/srv/app.py", line=9)
NO_PROCESS = 2**22 + 1


@pytest.fixture(params=["bcc", "files"], autouse=True)
def namer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """BCC where it is installed; our image has none."""
    if request.param == "bcc":
        pytest.importorskip("bcc", reason="python3-bpfcc is not installed")
    else:
        monkeypatch.setattr(symbols, "_bcc", lambda: None)


def write(directory: Path, number: int, *stacks: tuple[list[Frame], int]) -> None:
    builder = Builder(number * 10**9, 10**9, 10**7)
    for frames, count in stacks:
        builder.add(frames, count, pid=NO_PROCESS, tid=NO_PROCESS)
    pprof.write(builder.profile, directory / f"profile-{number}.pb.gz")


def folded(directory: Path) -> dict[str, int]:
    symbols.symbolize(directory, [NO_PROCESS])
    return flamegraph.read(directory / "profile.folded")


def test_files_become_one(tmp_path: Path) -> None:
    write(tmp_path, 1, ([HOT, MAIN], 3))
    write(tmp_path, 2, ([HOT, MAIN], 4), ([Frame(0x401000, BINARY)], 1))
    assert folded(tmp_path) == {"main (app.py:9);hot (app.py:6)": 7, "[server]": 1}
    assert sorted(os.listdir(tmp_path)) == ["profile.folded", "profile.pb.gz"]
    profile = pprof.read(tmp_path / "profile.pb.gz")
    assert (profile.time_nanos, profile.duration_nanos) == (10**9, 2 * 10**9)


def test_what_is_named_stays_its_containers(tmp_path: Path) -> None:
    labelled = [(("container.id", each),) for each in ("one", "other")]
    for number in (1, 2):
        builder = Builder(number * 10**9, 10**9, 10**7)
        for labels in labelled:
            builder.add([HOT, MAIN], number, NO_PROCESS, NO_PROCESS, labels)
        pprof.write(builder.profile, tmp_path / f"profile-{number}.pb.gz")
        assert folded(tmp_path)
    assert folded(tmp_path) == {"main (app.py:9);hot (app.py:6)": 6}
    found = pprof.stacks(pprof.read(tmp_path / "profile.pb.gz"))
    assert {each.labels: each.count for each in found} == dict.fromkeys(labelled, 3)


def test_called_again_it_adds(tmp_path: Path) -> None:
    stack = [Frame(0x401000, BINARY), Frame(name="_PyEval_EvalFrameDefault"), HOT]
    write(tmp_path, 1, (stack, 1))
    first = folded(tmp_path)
    write(tmp_path, 2, (stack, 2))
    assert {name: 3 * count for name, count in first.items()} == folded(tmp_path)
    assert folded(tmp_path) == {"hot (app.py:6);[server]": 3}


def test_nothing_comes_of_nothing(tmp_path: Path) -> None:
    symbols.symbolize(tmp_path, [])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        # all that the evaluator called is kept, what called it is Python's
        (
            [
                Frame(name="md5"),
                Frame(name="hash"),
                Frame(name="_PyEval_EvalFrameDefault"),
                Frame(name="start"),
                HOT,
                MAIN,
            ],
            "main (app.py:9);hot (app.py:6);hash;md5",
        ),
        # no evaluator: without frame pointers only the leaf is certain
        ([Frame(name="md5"), Frame(name="noise"), HOT], "hot (app.py:6);md5"),
        ([Frame(name="_PyEval_EvalFrameDefault.cold"), HOT], "hot (app.py:6)"),
        ([Frame(name="a;b"), Frame(0x1)], "[unknown];a,b"),
        ([Frame(name="x"), *[Frame(name="Interpreter")] * 3], "Interpreter;x"),
        ([], "[unknown]"),
    ],
)
def test_stacks_are_joined(tmp_path: Path, frames: list[Frame], expected: str) -> None:
    write(tmp_path, 1, (frames, 1))
    assert folded(tmp_path) == {expected: 1}


def test_kernel_functions_are_named(tmp_path: Path) -> None:
    lines = (line.split() for line in Path("/proc/kallsyms").read_text().splitlines())
    address = next((int(each[0], 16) for each in lines if each[2] == "vfs_read"), 0)
    if not address:
        pytest.skip("the kernel hides its addresses from this user")
    write(tmp_path, 1, ([Frame(address + 4), Frame(0x401000, BINARY)], 5))
    assert folded(tmp_path) == {"[server];vfs_read_[k]": 5}


def test_a_live_process_without_bcc_is_named_by_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(symbols, "_bcc", lambda: None)
    address = ctypes.cast(ctypes.CDLL(None).qsort, ctypes.c_void_p).value or 0
    mapping = next(m for m in mappings(os.getpid()) if m.start <= address < m.limit)
    with contextlib.closing(Elf(Path(mapping.path))) as elf:
        mapping = mapping._replace(build_id=elf.build_id())
    builder = Builder(10**9, 10**9, 10**7)
    builder.add([Frame(address + 1, mapping)], 3, pid=os.getpid(), tid=os.getpid())
    pprof.write(builder.profile, tmp_path / "profile-1.pb.gz")
    symbols.symbolize(tmp_path, [os.getpid()])
    assert flamegraph.read(tmp_path / "profile.folded") == {"qsort": 3}
