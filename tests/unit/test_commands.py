"""What every command has: a help with examples that can be read, and completion."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from harness.cli import app
from tests.unit import synthetic

ROOT = Path(__file__).resolve().parents[2]


def _commands(command: Any, name: str = "harness") -> Iterator[tuple[str, Any]]:
    if not (below := getattr(command, "commands", {})):
        yield name, command
    for each, its in below.items():
        yield from _commands(its, f"{name} {each}")


COMMANDS = dict(_commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_its_help_shows_how_it_is_called(name: str) -> None:
    told = COMMANDS[name].help or ""
    _, _, examples = told.partition("Examples:")
    assert f"{name}" in examples, told


@pytest.mark.parametrize("name", COMMANDS)
def test_each_of_its_examples_names_options_that_it_has(name: str) -> None:
    command = COMMANDS[name]
    known = {option for each in command.params for option in each.opts}
    for line in (command.help or "").splitlines():
        if line.split()[: len(name.split())] == name.split():
            given = {word for word in shlex.split(line) if word.startswith("-")}
            assert given <= known, line


def test_a_shell_can_complete_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer.completion, "_get_shell_name", lambda: "bash")  # whoever began this
    done = CliRunner().invoke(app, ["--show-completion"], prog_name="harness")
    assert done.exit_code == 0, done.output
    assert "complete" in done.stdout


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_of_a_table_is_longer_than_the_terminal(tmp_path: Path, width: int) -> None:
    from harness.analysis.summary import summarize
    from harness.report import terminal

    summary = summarize(synthetic.write(tmp_path / "r", synthetic.experiment(blocks=2)))
    told = list(terminal.lines(summary, width))
    assert max(map(len, told)) <= width
    assert any("requests a second" in line and "µs of CPU" in line for line in told)
    assert sum(line.startswith("http ") for line in told) == 3
    assert any("median latency" in line for line in told) == (width >= 120)


def test_who_names_nothing_is_told_what_could_be_measured() -> None:
    done = CliRunner().invoke(app, ["evaluate"])
    assert done.exit_code == 2
    assert "Nothing has been started" in done.stdout
    assert "harness evaluate quick" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_home_that_cannot_be_written_is_told_nobody(tmp_path: Path) -> None:
    """As under `sudo -u nobody` or in a container: the library that draws warns of its cache."""
    what = synthetic.experiment(workloads=("go",), blocks=1, switched_seconds=1.2)
    run = synthetic.write(tmp_path / "r", what)
    known = {k: v for k, v in os.environ.items() if k not in ("MPLCONFIGDIR", "XDG_CONFIG_HOME")}
    done = subprocess.run(
        [sys.executable, "-m", "harness", "report", str(run.path)],
        env={**known, "HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none"},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stderr == ""
