"""A lock on a folder itself: one holder at a time, and no file stays."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StoreError
from harness.results import folder as results
from harness.wire import folder_lock
from tests import waiting
from tests.unit import opened


def test_who_waits_for_one_that_removes_it_has_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, waits, take = tmp_path / "deep" / "place", threading.Event(), folder_lock.take
    first = folder_lock.open_locked(place)
    had = list[int]()

    def taken(descriptor: int, **how: Any) -> bool:
        if not (found := take(descriptor, **how)):
            waits.set()
        return found

    monkeypatch.setattr(folder_lock, "take", taken)
    other = threading.Thread(
        target=lambda: had.append(folder_lock.open_locked(place, waiting.PATIENCE_SECONDS))
    )
    other.start()
    assert waits.wait(waiting.PATIENCE_SECONDS)
    place.rmdir()
    place.parent.rmdir()
    os.close(first)
    other.join()
    assert os.path.samestat(os.fstat(had[0]), place.stat())
    with pytest.raises(TimeoutError):
        folder_lock.open_locked(place, 0.0)
    os.close(had[0])
    os.close(folder_lock.open_locked(place, 0.0))
    assert list(place.iterdir()) == []


def test_what_is_no_folder_is_an_error_and_no_endless_wait(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link", "link/below"):
        with pytest.raises(FileExistsError):
            folder_lock.open_locked(tmp_path / name)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_only_where_there_are_no_locks_nothing_is_held(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output error"):
            folder_lock.open_locked(tmp_path)
        with pytest.raises(StoreError, match="Cannot lock"), results.alone(tmp_path):
            pass
    else:
        os.close(folder_lock.open_locked(tmp_path))
        with results.alone(tmp_path):
            pass
    assert not opened.at(tmp_path)
