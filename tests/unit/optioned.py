"""A part of what a cluster runs, defined; for tests of options and of agents that are one."""

from __future__ import annotations

from pathlib import Path

from harness.wire.driving import Look, Turn
from harness.wire.subject import Option

MINE = """
name = "mine"
purpose = "What an agent can be told to look at"
kind = "option"
method = "block"
reach = "host"
events = '^seen (\\d+)$'

[source]
way = "cluster"
name = "obs/agent"

[option]
container = "agent"
on = ["tell", "on"]
off = ["tell", "off"]
state = ["tell"]
is_on = '^state: on$'
is_off = '^state: off$'
seen = ["tell", "seen"]
"""
TELL = ("tell",)
OPTION = Option(
    "agent", ("tell", "on"), ("tell", "off"), TELL, "^state: on$", "^state: off$", ("tell", "seen")
)
ON, OFF, LOOK = (
    Turn("obs/agent", OPTION, True), Turn("obs/agent", OPTION, False), Look("obs/agent", OPTION),
)  # fmt: skip


def written(folder: Path) -> str:
    """The path of its definition."""
    (folder / "mine.toml").write_text(MINE)
    return str(folder / "mine.toml")
