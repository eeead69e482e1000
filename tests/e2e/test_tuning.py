"""`harness tune` and `harness restore` on this machine: every value is what it was."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.linux import processes, tuning
from harness.linux.tunables import KINDS

HARNESS = str(Path(sys.executable).with_name("harness"))
PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        os.geteuid() != 0 or not os.access(PAGES, os.W_OK),
        reason="root is needed, and a kernel with transparent huge pages",
    ),
]


def told(*words: str) -> Any:
    return json.loads(processes.run([HARNESS, *words, "--json"]).stdout)


@pytest.fixture
def disturbed() -> Iterator[None]:
    """A machine that merges pages in the background; as it was afterwards, whatever happens."""
    before = PAGES.read_text()
    PAGES.write_text("always")
    try:
        yield
    finally:
        tuning.restore()
        PAGES.write_text(before.partition("[")[2].partition("]")[0])


def test_tune_sets_what_can_be_set_and_restore_gives_it_back(disturbed: None) -> None:
    planned = {w["what"]: w for row in told("tune", "--plan") for w in row["set"]}
    assert str(PAGES) in planned
    if any(w["kind"] != "file" or w["knob"] == "SMT siblings" for w in planned.values()):
        pytest.skip(
            "this machine has swap in use, timers or sibling threads, which stay as they are"
        )
    before = {what: KINDS[wish["kind"]].read(what) for what, wish in planned.items()}
    assert before == {what: wish["before"] for what, wish in planned.items()}
    found = told("tune")
    assert "[madvise]" in PAGES.read_text()
    assert len(found["done"]) + len(found["refused"]) == len(planned)
    again = {row["name"]: row for row in told("tune", "--plan")}
    assert not again["transparent huge pages"]["set"]
    back = told("restore")
    assert not back["refused"]
    assert {what: KINDS[wish["kind"]].read(what) for what, wish in planned.items()} == before
    assert not tuning.NOTE.exists()
    assert told("restore") == {"done": [], "refused": []}
