"""Guests are waited for as long as they get on: tests/kernels/patience.py."""

from __future__ import annotations

import itertools

import pytest

from tests.kernels import patience


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "STILL_SECONDS", 0.5)
    monkeypatch.setattr(patience, "_PAUSE_SECONDS", 0.02)


def test_what_gets_on_is_waited_for_until_it_is_done() -> None:
    turns = itertools.count()
    assert patience.until(lambda: next(turns) > 60, lambda: next(turns))


def test_what_is_still_is_given_up() -> None:
    assert not patience.until(lambda: False, lambda: "the same")


def test_what_gets_on_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "MOST_SECONDS", 0.5)
    turns = itertools.count()
    assert not patience.until(lambda: False, lambda: next(turns))
