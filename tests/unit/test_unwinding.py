"""How native stacks are walked is refused where it cannot be, in a sentence."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from harness.agent.errors import AgentError
from harness.agent.unwinding import CHOICES, Unwinding
from harness.collectors import values


def test_tables_are_refused_on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="aarch64"))
    for by in CHOICES[1:]:
        with pytest.raises(AgentError, match=f"--unwind {by} .* aarch64") as refused:
            Unwinding(by)
        assert "x86_64" in refused.value.why
        assert "frame_pointers" in refused.value.next_step
    assert Unwinding(CHOICES[0]).program == "profile"


def test_the_choices_are_those_of_the_agent() -> None:
    assert values.CHOICES["unwind"] == CHOICES
