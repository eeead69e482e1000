"""What commands say while they work: one line for each step, where there is no terminal."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from harness.cli import screen


def test_each_step_is_said_once_and_the_end_too(capsys: pytest.CaptureFixture[str]) -> None:
    with screen.progress(quiet=False) as tell:
        for done, label in ((0, "one"), (40, "one"), (40, "[two]"), (100, "[two]"), (100, "[two]")):
            tell(done, 100, label)
    assert capsys.readouterr().err.splitlines() == ["  0 %  one", " 40 %  [two]", "100 %"]


def test_nothing_is_said_to_who_wants_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with screen.progress(quiet=True) as tell:
        tell(0, 1, "one")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("label", ["go", "go, block 12: baseline (switched, attempt 2), go on"])
def test_the_bar_tells_what_is_gone_from_what_is_left_in_80_columns(label: str) -> None:
    shown = screen.bar(80)
    shown.add_task(label, total=100, completed=50)
    told = StringIO()
    Console(file=told, width=80).print(shown.get_renderable())
    (line,) = told.getvalue().rstrip("\n").splitlines()
    assert re.search(r" 50 % 0:00:0\d gone, -:--:-- left go", line), line
    assert len(line) <= 80
