"""What is noted of the stack, where it cannot be."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import NeedError
from harness.stack import ledger
from harness.stack.ledger import Running

RUNNING = Running("otelcol", "1", 7, "/cgroup/otelcol", "/log", ("otelcol",))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ledger, "DIRECTORY", tmp_path / "run" / "stack")
    return ledger.DIRECTORY


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("where", "does"),
    [
        ("os.link", lambda: ledger.claim(Path("/stack"), "127.0.0.1")),
        ("os.fsync", lambda: ledger.note(RUNNING)),
    ],
)
def test_a_full_disk_is_a_sentence_and_what_was_noted_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch, where: str, does: Callable[[], None]
) -> None:
    if where == "os.fsync":
        ledger.claim(Path("/stack"), "127.0.0.1")
    before = ledger.state()
    with monkeypatch.context() as disk:
        disk.setattr(where, _full)
        with pytest.raises(NeedError, match=r"cannot be noted in .*: No space left on device") as e:
            does()
    assert e.value.next_step == f"Make room in {folder.parents[1]}."
    assert ledger.state() == before
    assert [path.name for path in folder.iterdir()] == (["state.json"] if before else [])
