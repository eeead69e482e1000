"""The agents' memory while they stay on, written down as it goes; for `always_on`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.meters import bpf_maps
from harness.meters.memory import resident_bytes
from harness.node.agent_process import AgentProcess
from harness.node.testbed import Attend
from harness.node.windows import sleep_until

SAMPLE_SECONDS = 5.0  # reading takes some ms of this process, and a lock of the agent's memory


def keep(agents: Sequence[AgentProcess], seconds: float, path: Path, attend: Attend) -> None:
    """Write the memory of each agent every five seconds to `path`, a JSON object a line.

    It returns at the last of them within `seconds`; there is no file where that holds none. Bytes
    of all processes of an agent, and of the maps of its programs; `seconds` count from now.
    """
    begun, due = time.monotonic(), SAMPLE_SECONDS
    while due < seconds:
        sleep_until(begun + due)
        attend()
        rows = list(_rows(agents, round(time.monotonic() - begun, 2)))
        with path.open("a") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)
        due += SAMPLE_SECONDS


def _rows(agents: Sequence[AgentProcess], seconds: float) -> Iterator[dict[str, float | str]]:
    """One for each agent, all at one time."""
    for agent in (each for each in agents if each.pids()):
        maps = sum(each.bytes for each in bpf_maps.of_programs(agent.program_ids))
        resident = resident_bytes(agent.pids())
        yield {"seconds": seconds, "collector": agent.name, **resident, "maps": maps}
