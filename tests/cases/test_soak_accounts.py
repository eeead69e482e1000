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


def test_what_is_said_to_be_lost_was_made_and_is_little(soak: Any) -> None:
    account = soak.Account
    over = account("x", made=10, uncertain=1, seen=9, said=3)
    assert over.invented == 1
    assert not over.balances
    for reckoned in ("at most", "shared"):
        assert account("x", 10, 1, 9, 3, reckoned).balances
    assert account("x", made=1000, uncertain=0, seen=989, said=11).loses(1.0)
    assert not account("x", made=1000, uncertain=0, seen=990, said=10).loses(1.0)
    assert account("x", 1000, 0, 1000, 11, "at most").loses(1.0)
    assert not account("x", 1000, 0, 1000, 11, "shared").loses(1.0)


def test_accounts_of_what_did_not_happen_say_nothing(soak: Any) -> None:
    fine = soak.Account("requests", made=1000, uncertain=10, seen=1000, said=0)
    assert list(soak.unfit([fine], ended=False)) == []
    (ended,) = soak.unfit([fine], ended=True)
    assert "ended before" in ended
    (none,) = soak.unfit([soak.Account("spans", 0, 0, 0, 0)], ended=False)
    assert none == "No spans were made."
    (vague,) = soak.unfit([soak.Account("requests", 900, 100, 900, 0)], ended=False)
    assert "more than 1 %" in vague


class _Waiting:
    """A client of a collector of which something always waits, or that does not answer."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def call(self, command: str) -> dict[str, int]:
        assert command == "flush"
        if self.error:
            raise self.error
        return {"waiting": 7}


def test_what_waits_when_no_patience_is_left_is_unsaid(
    soak: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = importlib.import_module("soak")
    told = whole._told({"http": _Waiting()}, settle=0.0, patience=0.0)
    assert told == {"http": {"waiting": 7}}
    gone = _Waiting(whole.ControlError("gone"))
    with pytest.raises(whole.ControlError):
        whole._told({"http": gone}, settle=0.0, patience=0.0)


@pytest.mark.parametrize(
    ("step", "verdict"), [(0.0, "does not grow"), (0.05, "grows"), (0.0007, "does not grow")]
)
def test_growth_is_of_what_no_file_backs_once_it_is_warm(
    step: float, verdict: str, soak: Any
) -> None:
    """What is filled at the beginning is none, nor is what comes and goes.

    `step` is in MB, from each sample to the next in five seconds.
    """
    queue = (0, 9, 2, 7, 0, 4, 8)
    anonymous = [min(i, 70) + step * i + queue[i % len(queue)] for i in range(720)]
    samples = [
        {"seconds": 5.0 * i, "anonymous_mb": each, "pss_mb": 9.0 * i, "maps_mb": 4.0, "waiting": 0}
        for i, each in enumerate(anonymous)
    ]
    process, maps = soak.grown(samples)
    assert (process.verdict(1.0), maps.verdict(1.0)) == (verdict, "does not grow")
    assert next(iter(soak.grown(samples[:100]))).verdict(1.0) == "too short to tell"
    rows = list(soak.text([], [process, maps], samples, 1.0))
    assert "| pss_mb | 0.00 | 3240.00 | 6471.00 | | |" in rows
