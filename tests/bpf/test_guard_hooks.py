"""`guard` by each hook for opened files that this kernel has: 23 openers are 23 events."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bpf.guarded import hooks
from tests.bpf.layers import overlay

pytestmark = pytest.mark.bpf

# Reads the file given without executing anything, from a process that ends at once.
FORK_AND_READ = """
import os, sys
for _ in range(int(sys.argv[2])):
    if os.fork() == 0:
        os.open(sys.argv[1], os.O_RDONLY)
        os._exit(0)
    os.wait()
"""


@pytest.fixture
def watching(
    start_agent: Callable[..., Any], service: Any, receiver: Any, tmp_path: Path
) -> Callable[[str, Path, str], list[dict[str, Any]]]:
    """What 23 openers of a file are told as, by a hook and an action; the cgroup's alone."""

    def watch(hook: str, file: Path, action: str = "report") -> list[dict[str, Any]]:
        policy = tmp_path / "policy.toml"
        policy.write_text(f'[[rules]]\nevent = "open"\nmatch = "{file}"\naction = "{action}"\n')
        agent = start_agent("guard", "--policy", str(policy), "--open-hook", hook)
        receiver.logs.clear()
        openers = service.start(sys.executable, "-S", "-c", FORK_AND_READ, str(file), "23")
        assert openers.wait(60) == 0
        assert file.read_text()  # somebody else
        agent.stop()
        assert any(hook in each for each in agent.ready["hooks"])
        return [receiver.attributes(log) for log in receiver.logs]

    return watch


def test_23_openers_are_23_events_by_each_hook(watching: Any, tmp_path: Path) -> None:
    (tmp_path / "watched").write_text("watched\n")
    for hook in hooks():
        told = watching(hook, tmp_path / "watched")
        assert [each["file.path"] for each in told] == [str(tmp_path / "watched")] * 23, hook
        assert len({each["process.pid"] for each in told}) == 23


def test_an_overlay_opens_a_file_twice_and_it_is_told_once(watching: Any, tmp_path: Path) -> None:
    """For each file that is opened there the kernel opens one of a layer, by the same path."""
    with overlay(tmp_path) as merged:
        for hook in hooks():
            told = watching(hook, merged / "watched")
            assert [each["file.path"] for each in told] == [str(merged / "watched")] * 23, hook


def test_openers_are_killed_by_each_hook(watching: Any, tmp_path: Path) -> None:
    (tmp_path / "watched").write_text("watched\n")
    for hook in hooks():
        told = watching(hook, tmp_path / "watched", "kill")
        assert len(told) == 23, hook
        assert {each["guard.action"] for each in told} == {"kill"}
