"""`profile` and CPython: each release, many threads, several interpreters."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.agent.python_layouts import LAYOUTS
from tests.bpf.profiled import folded, sample, stacks
from tests.waiting import until

pytestmark = pytest.mark.bpf

OPTIONS = ("--frequency", "99")
PROGRAM = """
def work(n):
    while n:
        n -= 1
def hot():
    work(8000)
def main():
    while True:
        hot()
main()
"""
MANY_THREADS = """
import threading
def hot():
    n = 0
    while True:
        n += 1
for _ in range(300):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
hot()
"""
# who hashes much has no lock meanwhile, and is the last of all threads to be found
WITHOUT_THE_LOCK = """
import hashlib, threading
def hot():
    while True:
        hashlib.sha256(much)
for _ in range(300):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
much = bytes(1 << 24)
hot()
"""
INTERPRETERS = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
def outside(n):
    while n:
        n -= 1
inner = interpreters.create()
while True:
    outside(300000)
    interpreters.run_string(inner, '''
def inside(n):
    while n:
        n -= 1
inside(300000)
''')
"""


def pythons() -> dict[str, str]:
    """The interpreters of this machine by release: on PATH, of the system, of pyenv."""
    places = [*os.environ["PATH"].split(":"), "/usr/bin"]
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    places += [str(each) for each in sorted(root.glob("versions/*/bin"))]
    path = ":".join(each for each in places if not each.endswith("/shims"))  # scripts of pyenv
    found = {f"3.{minor}": shutil.which(f"python3.{minor}", path=path) for minor in range(9, 15)}
    return {release: program for release, program in found.items() if program}


FOUND = pythons()
SUPPORTED = [each for each in FOUND if each in {f"3.{v}" for _, v in LAYOUTS} | {"3.13", "3.14"}]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    directory = tmp_path / "pprof"
    directory.mkdir()
    return directory


@pytest.fixture
def profiled(
    service: Any, start_agent: Callable[..., Any], output: Path, tmp_path: Path
) -> Callable[..., tuple[Any, dict[str, Any], int]]:
    """Run a program in a Python until so many samples of it were taken; agent, stats, pid."""

    def run(program: str, python: str, wanted: int = 100, threads: int = 1) -> Any:
        (tmp_path / "program.py").write_text(program)
        process = service.start(python, str(tmp_path / "program.py"))
        task = f"/proc/{process.pid}/task"
        assert until(lambda: len(os.listdir(task)) >= threads), "its threads did not start"
        agent = start_agent("profile", *OPTIONS, "--pprof", str(output))
        return agent, sample(agent, wanted), process.pid

    return run


def test_there_is_a_python_to_try() -> None:
    assert SUPPORTED


@pytest.mark.parametrize("release", SUPPORTED)
def test_functions_of_each_release_are_named(
    profiled: Callable[..., Any], output: Path, release: str
) -> None:
    agent, stats, pid = profiled(PROGRAM, FOUND[release])
    assert any(re.fullmatch(rf"python/{release}", hook) for hook in agent.ready["hooks"])
    named = folded(output, pid)
    known = "main (program.py:7);hot (program.py:5);work (program.py:2)"
    assert sum(n for stack, n in named.items() if known in stack) > 0.8 * stats["events"]


@pytest.mark.parametrize("release", SUPPORTED)
def test_the_running_one_of_many_threads_is_found(
    profiled: Callable[..., Any], output: Path, release: str
) -> None:
    _, stats, _ = profiled(MANY_THREADS, FOUND[release], threads=301)
    named = [each for each in stacks(output) if any(f.name == "hot" for f in each.frames)]
    assert sum(each.count for each in named) > 0.8 * stats["events"]


def test_who_was_not_found_among_too_many_is_counted(profiled: Callable[..., Any]) -> None:
    _, stats, _ = profiled(WITHOUT_THE_LOCK, FOUND[SUPPORTED[-1]], threads=301)
    assert 0 < stats["python_unwalked"] <= stats["events"]


@pytest.mark.parametrize("release", SUPPORTED)
def test_functions_of_each_interpreter_are_named(
    profiled: Callable[..., Any], output: Path, release: str
) -> None:
    profiled(INTERPRETERS, FOUND[release], wanted=200)
    counts = {
        name: sum(
            each.count
            for each in stacks(output)
            if each.frames and any(frame.name == name for frame in each.frames)
        )
        for name in ("inside", "outside")
    }
    assert min(counts.values()) > 20
