"""The exit code of a command is its verdict, whatever becomes of what it prints.

The real program runs with its output closed, into a pipe that nobody reads on, and on a full disk.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli import streams
from harness.cli.streams import Stream
from harness.model import Arm
from tests.unit import synthetic
from tests.unit.costed import LOUD, experiment
from tests.unit.gated import PUBLISHED

COVERED = '[[budget]]\nmetric = "coverage_percent[requests]"\narm = "http"\n'
OWN = ["--command", "python3 -m http.server 8099", "--url", "http://127.0.0.1:8099/"]


def _gate(limit: str) -> Callable[[Path], list[str]]:
    def command(folder: Path) -> list[str]:
        budget = folder / "budget.toml"
        budget.write_text(COVERED + limit)
        return ["gate", str(PUBLISHED), "--budget", str(budget)]

    return command


def _report(folder: Path) -> list[str]:
    run = folder / "run"
    if not run.exists():
        synthetic.write(run, experiment(Arm("http", ("http",)), switched_seconds=1.2), LOUD)
    return ["report", str(run)]


COMMANDS: dict[str, tuple[Callable[[Path], list[str]], int | None]] = {
    "a gate that passes": (_gate("min = 99"), 0),
    "a gate that fails": (_gate("max = 90"), 1),
    "a gate that is open": (_gate("min = 99.99"), 3),
    "a budget that is wrong": (_gate("maxi = 90"), 2),
    "report": (_report, 0),
    "evaluate --plan": (lambda _: ["evaluate", "--plan", *OWN], 0),
    "doctor": (lambda _: ["doctor"], None),  # depends on the machine
    "help": (lambda _: ["gate", "--help"], 0),
    "--version": (lambda _: ["--version"], 0),
}


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[list[str], int]:
    """A command line and its exit code where its output is read."""
    words, code = COMMANDS[request.param]
    argv = words(tmp_path)
    return argv, harness(argv).returncode if code is None else code


def harness(
    argv: list[str], stdout: Any = subprocess.PIPE, stderr: Any = subprocess.PIPE, closed: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """`harness` as a process; the shell closes the descriptors that `closed` names."""
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh"]
    whole = [*shell, sys.executable, "-m", "harness", *argv]
    return subprocess.run(whole, stdout=stdout, stderr=stderr, timeout=120, check=False)


@contextlib.contextmanager
def unread() -> Iterator[int]:
    """A pipe whose reader has ended."""
    read, write = os.pipe()
    os.close(read)
    try:
        yield write
    finally:
        os.close(write)


def test_closed_output_changes_no_verdict(command: tuple[list[str], int]) -> None:
    argv, code = command
    done = harness(argv, closed=">&-")
    assert done.returncode == code
    assert b"Traceback" not in done.stderr


def test_a_reader_that_ended_changes_no_verdict(command: tuple[list[str], int]) -> None:
    argv, code = command
    with unread() as pipe:
        done = harness(argv, stdout=pipe)
    assert done.returncode == code
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


def test_on_a_full_disk_the_loss_is_told_and_is_no_verdict(command: tuple[list[str], int]) -> None:
    argv, code = command
    with open("/dev/full", "wb") as full:
        done = harness(argv, stdout=full)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    if code != 2:  # which prints nothing there
        assert b"What was printed is lost: No space left on device." in done.stderr


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_a_verdict_needs_no_descriptor_at_all(closed: str, tmp_path: Path) -> None:
    for limit, code in (("min = 99", 0), ("max = 90", 1)):
        assert harness(_gate(limit)(tmp_path), closed=closed).returncode == code


def test_a_verdict_needs_nobody_who_reads_what_goes_to_stderr(tmp_path: Path) -> None:
    for limit, code in (("min = 99", 0), ("max = 90", 1)):
        argv = _gate(limit)(tmp_path)
        with unread() as pipe, open("/dev/full", "wb") as full:
            assert harness(argv, stdout=pipe, stderr=pipe).returncode == code
            assert harness(argv, stderr=full).returncode == code


def test_a_word_that_the_terminal_cannot_spell_changes_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = harness(_gate("min = 99")(tmp_path))
    assert done.returncode == 0
    assert b"PASS" in done.stdout


def test_no_command_gets_a_file_of_ours_for_its_closed_output(tmp_path: Path) -> None:
    suite = tmp_path / "suite.xml"
    argv = [*_gate("min = 99")(tmp_path), "--junit", str(suite)]
    assert harness(argv, closed=">&-").returncode == 0
    assert re.fullmatch(r"<\?xml.*</testsuites>\n", suite.read_text(), re.DOTALL)


def test_a_defect_outside_of_a_command_is_no_verdict_either() -> None:
    code = (
        "from harness import cli\n"
        "from harness.cli import commands\n"
        "commands.out = None\n"  # so that --version, which no command catches, fails
        "cli.main()"
    )
    argv = [sys.executable, "-c", code, "--version", "evaluate"]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert b"This is a defect of the harness" in done.stderr


def test_a_stream_waits_for_a_reader_that_is_slow() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    stream = Stream(write)
    pid = os.fork()
    if pid == 0:  # the reader
        os.close(write)
        while os.read(read, 1 << 12):
            pass
        os._exit(0)
    os.close(read)
    left = memoryview(bytes(1 << 20))
    while left:
        left = left[stream.write(left) :]
    os.close(write)
    assert os.waitpid(pid, 0)[1] == 0
    assert stream.error is None


def test_a_stream_says_why_it_lost_something_that_was_to_be_read() -> None:
    full = Stream(os.open("/dev/full", os.O_WRONLY))
    assert full.lost == ""
    assert full.write(b"abc") == 3
    assert full.lost == "No space left on device"
    with unread() as pipe:
        ended = Stream(pipe)
        assert ended.write(b"abc") == 3
        assert ended.error is not None
        assert ended.lost == ""


def test_what_an_encoding_lacks_is_spelt_and_no_digits_are_added(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "harness", *_gate("max = 1")(tmp_path)]
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60)
    assert "\\u" not in done.stdout + done.stderr
    assert "<= 1 %" in done.stdout


def test_a_sign_that_nothing_stands_for_is_escaped() -> None:
    minus, sign = "\N{MINUS SIGN}", "\N{SNOWMAN}"
    assert f"{minus}1 {sign}".encode("ascii", streams._PLAIN) == b"-1 \\u2603"
