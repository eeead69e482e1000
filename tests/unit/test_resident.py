"""What agents keep in memory: modules that most of them never need are not imported."""

from __future__ import annotations

import sys

from harness.agent.__main__ import COLLECTORS
from harness.linux import processes

# with what they import a MB and more of an agent
SPARED = ("_hashlib", "urllib.request", "shutil", "asyncio", "subprocess")


def test_agents_do_without_what_they_are_not_asked_for() -> None:
    code = (
        "import importlib, sys, harness.agent.runtime\n"
        f"for each in {sorted(COLLECTORS.values())}:\n"
        "    importlib.import_module(each)\n"
        f"print([each for each in {SPARED} if each in sys.modules])"
    )
    assert processes.run([sys.executable, "-c", code]).stdout.strip() == "[]"
