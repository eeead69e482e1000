"""The type of hook by a program's section, and which programs a slice of a trial meters."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.agent.hooks import hook_type
from harness.meters.bpfstats import Program
from harness.node import bpf_time
from harness.wire.spec import WindowState


@pytest.mark.parametrize(
    ("section", "kind"),
    [("cgroup_skb/egress", "cgroup_skb"), ("tp/sched/sched_switch", "tracepoint"),
     ("cgroup/connect4", "cgroup_sock"),
     ("cgroup/getsockopt", "cgroup_sockopt"), ("fexit/tcp_close", "fentry"),
     ("lsm/file_open", "fentry"), ("lsm.s/bprm_check_security", "fentry"),
     ("uprobe", "uprobe"), ("uretprobe", "uretprobe"),
     ("kprobe/do_exit", "kprobe"), ("kretprobe/do_exit", "kretprobe")],
)  # fmt: skip
def test_each_section_has_its_type(section: str, kind: str) -> None:
    assert hook_type(section) == kind


def test_a_slice_leaves_out_what_the_agent_runs_itself() -> None:
    told = [{1: Program(1, "egress", "cgroup_skb", 1000 * n, n, 0),
             2: Program(2, "find_open", "tracing", 9000 * n, n, 0)} for n in (5, 8)]  # fmt: skip
    agent: Any = SimpleNamespace(hooks={1: "cgroup_skb", 2: "iter"})
    watched: Any = {True: SimpleNamespace(read=lambda: told.pop(0))}
    switch: Any = SimpleNamespace(to=lambda states: None)
    own, state = bpf_time._in_agents([agent]), WindowState(True, (True,))
    row = bpf_time._slice(switch, watched, own, 0, state, 0.001)
    assert (row.meters["bpf.run"], row.meters["bpf.runs"]) == pytest.approx((3e-6, 3))
