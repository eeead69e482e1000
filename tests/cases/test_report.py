"""What is printed of made-up runs equals the files that are kept: tests/cases/report/."""

from __future__ import annotations

import difflib
import json
import re
from typing import Any

import pytest

from tests.cases import golden

SHOWN = 60  # lines of a difference
DECIMALS = 12
CLIP = re.compile(r"-p[0-9a-f]{10}\b")
PLACE = re.compile(r"\b\d+\.\d{6}\b")


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    return golden.outputs()


def _kept() -> list[str]:
    return sorted(path.name for path in golden.FOLDER.iterdir())


def test_every_output_is_kept(printed: dict[str, str]) -> None:
    assert sorted(printed) == _kept()


@pytest.mark.parametrize("name", _kept())
def test_what_is_printed_is_what_was_printed(name: str, printed: dict[str, str]) -> None:
    before, now = (_lines(name, text) for text in ((golden.FOLDER / name).read_text(),
                                                   printed[name]))  # fmt: skip
    shown = list(difflib.unified_diff(before, now, "kept", "printed", lineterm="", n=2))
    assert before == now, "\n".join(
        [*(line[:300] for line in shown[:SHOWN]), "`make golden`, if it is meant to be so."]
    )


def _lines(name: str, text: str) -> list[str]:
    """Numbers of JSON to nine digits: the last of sixteen are the processor's own.

    So are the last of six decimals in a figure, and the names of what clips it, made of them.
    """
    if name.endswith(".json"):
        return json.dumps(_rounded(json.loads(text)), indent=1).splitlines()
    return PLACE.sub(lambda it: f"{float(it[0]):.4f}", CLIP.sub("-clip", text)).splitlines()


def _rounded(value: Any) -> Any:
    """What adds up to nothing has no digits of its own: it is told to twelve decimals.

    Nor has how probable that is, of which five are.
    """
    if isinstance(value, float):
        return float(f"{round(value, DECIMALS):.9g}")
    if isinstance(value, dict):
        told = {key: _rounded(each) for key, each in value.items()}
        return told | ({"p": round(told["p"], 5)} if isinstance(told.get("p"), float) else {})
    return [_rounded(each) for each in value] if isinstance(value, list) else value
