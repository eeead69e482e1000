"""Every record of a decision has a date and alternatives, and the index says when to read it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs/adr"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_a_record_has_what_a_reader_asks_for(record: Path) -> None:
    text = record.read_text()
    assert text.startswith(f"# {record.name[:4]} ")
    head = text.split("**Context.**")[0]
    assert re.search(r"\b20\d\d-\d\d-\d\d\b", head), "its date"
    assert "**Status**: " in head
    for part in ("Context", "Decision", "Consequences", "Alternatives"):
        assert re.search(rf"^\*\*{part}\.?\*\*", text, re.MULTILINE), part


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_the_index_says_before_which_change_a_record_is_to_be_read(record: Path) -> None:
    index = (FOLDER / "README.md").read_text()
    (row,) = [line for line in index.splitlines() if f"]({record.name})" in line]
    number, decision, change = (cell.strip() for cell in row.strip("|").split("|"))
    assert number == f"[{record.name[:4]}]({record.name})"
    assert decision
    assert change
