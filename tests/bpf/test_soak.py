"""A minute of mixed load on all collectors: what was made arrives, or is said to be lost."""

from __future__ import annotations

import json
import sys

import pytest

from harness.linux import processes
from tests.bpf.conftest import ROOT

pytestmark = pytest.mark.bpf

SERVICE = ROOT / "workloads/go/.output/server"
ALL_IS_WELL, TOO_SHORT = 0, 3  # to tell whether memory grows: nothing here says that


def test_nothing_is_lost_unsaid_under_mixed_load() -> None:
    if not SERVICE.exists():
        pytest.skip("workloads/go is not built: make setup")
    argv = [sys.executable, str(ROOT / "ci/soak.py"), "--hours", "0.012", "--json"]
    done = processes.run(argv, check=False, timeout=600, cwd=ROOT)
    assert done.returncode in (ALL_IS_WELL, TOO_SHORT), done.stdout + done.stderr
    accounts = {each["what"]: each for each in json.loads(done.stdout)}
    assert all(each["made"] > 0 for each in accounts.values()), accounts
    for each in accounts.values():
        gone = each["seen"] + each["said"]
        assert each["made"] <= gone, each
        assert each["seen"] <= each["made"] + each["uncertain"], each
