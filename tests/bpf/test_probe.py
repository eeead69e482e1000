"""The probes against the real kernel: they agree with what it has, and leave nothing loaded."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from harness.collectors import REGISTRY
from harness.linux import bpf_features, processes
from harness.meters import bpfstats
from harness.node import needs
from harness.plan import trials
from harness.wire import codec
from harness.wire.spec import Needs
from tests.waiting import until

pytestmark = [
    pytest.mark.bpf,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to load BPF programs"),
]


def test_what_the_collectors_need_works_here() -> None:
    assert needs.unmet(trials.needs(REGISTRY)) == {}


def test_what_the_kernel_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    """A node that sees no perf unit of tracepoints finds those who need them, and nobody else."""
    asked = {"a": Needs("a", ("ring buffer", "tp")), "b": Needs("b", ("ring buffer",), ("tp",))}
    hidden = f'mount --bind {tmp_path} /sys/bus/event_source/devices && exec "$@"'
    argv = [sys.executable, "-m", "harness.node", "unmet", json.dumps(codec.dump(asked))]
    done = processes.run(["unshare", "--mount", "sh", "-c", hidden, "sh", *argv])
    found = json.loads(done.stdout)["answer"]
    assert list(found) == ["a"]
    assert found["a"]["what"] == "Collector 'a' cannot run here: the kernel refuses tp."
    assert "built without tracepoints" in found["a"]["why"]


@pytest.mark.parametrize("name", ["kprobe", "uprobe"])
def test_probes_agree_with_the_perf_units_of_the_kernel(name: str) -> None:
    exists = Path(f"/sys/bus/event_source/devices/{name}").exists()
    assert (bpf_features.refusal(name) == "") == exists


def test_no_probe_stays_loaded() -> None:
    for name in bpf_features.PROBES:
        bpf_features.refusal(name)
    # the kernel frees programs after a grace period
    assert until(lambda: all(each.name != bpf_features.NAME for each in bpfstats.programs()))
