"""Policies, and what `guard` told by them; for tests of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.linux import bpf_features

# Does something in a process of its own, then becomes a program: CODE, then what it executes.
BECOME = "import os, sys\n{code}\nos.execv(sys.argv[1], sys.argv[1:])"

# A file system of a container that never answers, from the moment that a file is there.
HUNG = """
import os, sys, time
from harness.agent import policy_maps, roots
policy_maps.REFRESH_SECONDS = 0.1
followed = roots.Root._followed
def hung(self, path):
    while os.path.exists({flag!r}):
        open({flag!r} + ".seen", "w").close()
        time.sleep(0.1)
    return followed(self, path)
roots.Root._followed = hung
from harness.agent.__main__ import main
sys.exit(main(sys.argv[4:]))
"""


def policy(folder: Path, *rules: tuple[str, str, str]) -> tuple[str, str]:
    """The option for a policy of (event, match, action) rules named r0, r1, ..."""
    file = folder / "policy.toml"
    file.write_text(
        "".join(
            f'[[rules]]\nname = "r{i}"\nevent = "{event}"\nmatch = "{match}"\naction = "{action}"\n'
            for i, (event, match, action) in enumerate(rules)
        )
    )
    return "--policy", str(file)


def logs(receiver: Any, name: str) -> list[dict[str, Any]]:
    """The attributes of the records of this name."""
    return [receiver.attributes(log) for log in receiver.logs if log.event_name == name]


def counted(receiver: Any, name: str) -> dict[tuple[str, str], int]:
    """The last points of a metric, by event and action."""
    metric = next(each for each in reversed(receiver.metrics) if each.name == name)
    found = {}
    for point in metric.sum.data_points:
        attributes = receiver.attributes(point)
        found[attributes["event.name"], attributes["guard.action"]] = point.as_int
    return found


def hooks() -> list[str]:
    """The hooks for opened files that can be asked for here; there is always one."""
    return [*(name for name in ("lsm", "fentry") if not bpf_features.refusal(name)), "fanotify"]
