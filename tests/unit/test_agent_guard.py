"""What `guard` counts as lost of what its programs could not even look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.agent.guard import _SEES, Guard
from harness.agent.policy import Rule
from harness.agent.together import Together

RULES = (Rule("all", "exec", ("*",), "report"),)


@dataclass
class Program:
    """One of the kernel half's, which was not run so often, for it was running on its CPU."""

    name: str
    recursion_misses: int

    def info(self) -> Program:
        return self


class Kernel:
    """The object, in which nothing else was counted."""

    def __init__(self, missed: Mapping[str, int]) -> None:
        self.programs = [Program(name, missed.get(name, 0)) for name in _SEES]

    def get(self, _: str) -> bytes:
        return bytes(12 * 8)


def guard(missed: Mapping[str, int]) -> Any:
    made: Any = Guard(Path("/nowhere"), RULES, lambda: None, Together())
    made._object = Kernel(missed)
    return made


def test_a_program_that_would_have_interrupted_itself_could_not_judge() -> None:
    counts = guard({"on_exec": 3, "on_connect4": 2, "on_sendmsg6": 1}).counts()
    assert (counts.events, counts.lost, counts.more["unjudged"]) == (0, 6, 6)
    assert guard({}).counts().lost == 0


def test_it_is_told_by_what_the_program_sees() -> None:
    lost = guard({"on_exec": 3, "on_open_lsm": 7, "on_connect4": 2, "on_sendmsg6": 1})._lost()
    found = {event: lost[event, "unjudged"] for event in ("exec", "open", "connect")}
    assert found == {"exec": 3, "open": 7, "connect": 3}
