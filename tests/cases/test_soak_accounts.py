"""A soak's accounts: what is in neither of its columns, and memory that grows."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

CI = Path(__file__).resolve().parents[2] / "ci"


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(CI))
    return importlib.import_module("soak_account")


def test_what_is_neither_seen_nor_said_is_unsaid(soak: Any) -> None:
    account = soak.Account
    assert account("x", made=10, uncertain=0, seen=7, said=3).balances
    assert account("x", made=10, uncertain=2, seen=12, said=0).balances
    assert account("x", made=10, uncertain=0, seen=7, said=2).unsaid == 1
    assert account("x", made=10, uncertain=1, seen=12, said=0).invented == 1


@pytest.mark.parametrize(
    ("step", "verdict"), [(0.0, "does not grow"), (0.05, "grows"), (0.0007, "does not grow")]
)
def test_growth_is_of_the_second_half(step: float, verdict: str, soak: Any) -> None:
    """What is filled in the first half is none, nor is what comes and goes.

    `step` is in MB, from each sample to the next in five seconds.
    """
    queue = (0, 9, 2, 7, 0, 4, 8)
    pss = [min(i, 200) + step * i + queue[i % len(queue)] for i in range(720)]
    samples = [
        {"seconds": 5.0 * i, "pss_mb": each, "maps_mb": 4.0, "waiting": 0.0}
        for i, each in enumerate(pss)
    ]
    process, maps = soak.grown(samples)
    assert (process.verdict(1.0), maps.verdict(1.0)) == (verdict, "does not grow")
    assert next(iter(soak.grown(samples[:100]))).verdict(1.0) == "too short to tell"
