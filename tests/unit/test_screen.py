"""What commands say while they work: one line for each step, where there is no terminal."""

from __future__ import annotations

import pytest

from harness.cli import screen


def test_each_step_is_said_once_and_the_end_too(capsys: pytest.CaptureFixture[str]) -> None:
    with screen.progress(quiet=False) as tell:
        for done, label in ((0, "one"), (40, "one"), (40, "[two]"), (100, "[two]")):
            tell(done, 100, label)
    assert capsys.readouterr().err.splitlines() == ["  0 %  one", " 40 %  [two]", "100 %  [two]"]


def test_nothing_is_said_to_who_wants_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with screen.progress(quiet=True) as tell:
        tell(0, 1, "one")
    assert capsys.readouterr().err == ""
