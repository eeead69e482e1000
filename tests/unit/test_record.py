from pathlib import Path

import numpy as np

from harness.load import record
from harness.load.record import Record


def test_what_was_added_is_read_back(tmp_path: Path) -> None:
    filled = Record()
    filled.add(10, 20, 3_000_000_000_000_000_007, 200, False, "/", 6)
    filled.add(11, 21, 31, 503, True, "/api/users/{id}", 0, twin=True)
    filled.add(12, 22, 32, 0, True, "/", 2**40)
    filled.write(tmp_path / "requests.npz")
    read = record.read(tmp_path / "requests.npz")
    assert read.due_ns.tolist() == [10, 11, 12]
    assert read.start_ns.tolist() == [20, 21, 22]
    assert read.end_ns.tolist() == [3_000_000_000_000_000_007, 31, 32]
    assert read.latency_ns.tolist() == [3_000_000_000_000_000_007 - 10, 20, 20]
    assert read.status.tolist() == [200, 503, 0]
    assert read.failed.tolist() == [False, True, True]
    assert [read.route_names[i] for i in read.route] == ["/", "/api/users/{id}", "/"]
    assert read.size.tolist() == [6, 0, 2**31 - 1]
    assert read.twin.tolist() == [False, True, False]
    assert filled.errors == 2
    assert [path.name for path in tmp_path.iterdir()] == ["requests.npz"]


def test_the_columns_have_the_documented_types(tmp_path: Path) -> None:
    Record().write(tmp_path / "empty.npz")
    with np.load(tmp_path / "empty.npz") as columns:
        kinds = {name: columns[name].dtype.kind + str(columns[name].itemsize) for name in columns}
    assert {name: kinds[name] for name in ("due_ns", "start_ns", "end_ns", "status")} == {
        "due_ns": "i8",
        "start_ns": "i8",
        "end_ns": "i8",
        "status": "i2",
    }
    assert (kinds["route"], kinds["bytes"], kinds["failed"]) == ("u1", "i4", "b1")


def test_files_of_earlier_versions_have_no_twin(tmp_path: Path) -> None:
    filled = Record()
    filled.add(10, 20, 30, 200, False, "/", 6, twin=True)
    filled.write(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as columns:
        np.savez(tmp_path / "old.npz", **{k: v for k, v in columns.items() if k != "twin"})
    assert record.read(tmp_path / "new.npz").twin.tolist() == [True]
    assert record.read(tmp_path / "old.npz").twin.tolist() == [False]


def test_routes_beyond_the_index_share_a_name(tmp_path: Path) -> None:
    filled = Record()
    for number in range(300):
        filled.add(0, 0, 1, 200, False, f"/{number}", 0)
    filled.write(tmp_path / "many.npz")
    read = record.read(tmp_path / "many.npz")
    named = [read.route_names[i] for i in read.route]
    assert named[:255] == [f"/{number}" for number in range(255)]
    assert set(named[255:]) == {"(other)"}
