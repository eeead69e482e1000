"""A run of tests that somebody ends undoes what its tests made."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from harness.linux import processes
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
SLOW = """
import pathlib, time
import pytest

@pytest.fixture
def made(tmp_path_factory):
    place = pathlib.Path({place!r})
    place.touch()
    yield place
    place.unlink()

def test_slow(made):
    pathlib.Path({begun!r}).touch()
    time.sleep(600)
"""


def test_who_is_told_to_end_undoes_what_was_made(tmp_path: Path) -> None:
    place, begun, test = (tmp_path / name for name in ("made", "begun", "test_slow.py"))
    test.write_text(SLOW.format(place=str(place), begun=str(begun)))
    argv = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "--rootdir", str(tmp_path)]
    process = processes.spawn([*argv, str(test)], log=tmp_path / "log", cwd=ROOT)
    try:
        assert until(begun.exists), process.log.read_text()  # pytest knows of what is to be undone
        assert place.exists()
        process.send_signal(signal.SIGTERM)
        assert until(lambda: process.poll() is not None)
        assert not place.exists(), process.log.read_text()
    finally:
        processes.stop(process)
