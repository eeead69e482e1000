"""The spool: a record that a crash cut off neither breaks reading nor hides what follows."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.wire.spool import Record, pack, read_spool, whole_bytes

FIRST = Record(1, 2, "/v1/logs", "application/json", "", b"first")
SECOND = Record(3, 4, "/v1/traces", "application/x-protobuf", "gzip", b"second")


def test_every_cut_leaves_the_records_before_it(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    end, whole = len(pack(FIRST)), pack(FIRST) + pack(SECOND)
    for length in range(end, len(whole)):
        path.write_bytes(whole[:length])
        assert list(read_spool(path)) == [FIRST]
        assert whole_bytes(path) == end
    path.write_bytes(whole)
    assert list(read_spool(path)) == [FIRST, SECOND]
    assert whole_bytes(path) == len(whole)


def test_an_empty_spool_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    assert list(read_spool(tmp_path / "spool")) == []
    assert whole_bytes(tmp_path / "spool") == 0


def test_what_is_no_spool_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="is not a spool"):
        whole_bytes(tmp_path / "spool")
