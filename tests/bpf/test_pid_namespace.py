"""Collectors that run in a PID namespace of their own know processes by its numbers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from harness.linux import processes

pytestmark = [
    pytest.mark.bpf,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to load BPF programs"),
]
ROOT = Path(__file__).resolve().parents[2]
TOLD_BY_NUMBER = (
    "test_guard.py::test_23_executions",
    "test_guard.py::test_23_openers_that_end_at_once",
    "test_guard.py::test_a_kill_rule_for_a_connection",
    "test_profile.py::test_native_functions_have_their_share",
    "test_profile.py::test_python_functions_are_named",
)


@pytest.mark.parametrize("name", TOLD_BY_NUMBER)
def test_what_is_told_by_number_is_the_same_in_a_namespace(name: str) -> None:
    argv = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv += [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/bpf/{name}"]
    done = processes.run(argv, check=False, timeout=600, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
