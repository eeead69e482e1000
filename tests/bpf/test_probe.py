"""The probes against the real kernel: they agree with what it has, and leave nothing loaded."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.linux import bpf_features
from harness.meters import bpfstats
from harness.node import doctor

pytestmark = [
    pytest.mark.bpf,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to load BPF programs"),
]


@pytest.mark.parametrize("name", doctor.NEEDED_BY)
def test_what_the_collectors_need_works_here(name: str) -> None:
    assert bpf_features.refusal(name) == ""


@pytest.mark.parametrize("name", ["kprobe", "uprobe"])
def test_probes_agree_with_the_perf_units_of_the_kernel(name: str) -> None:
    exists = Path(f"/sys/bus/event_source/devices/{name}").exists()
    assert (bpf_features.refusal(name) == "") == exists


def test_no_probe_stays_loaded() -> None:
    for name in bpf_features.PROBES:
        bpf_features.refusal(name)
    deadline = time.monotonic() + 10  # the kernel frees programs after a grace period
    while any(each.name == bpf_features.NAME for each in bpfstats.programs()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
