"""The type of hook by a program's section: what is calibrated under which name."""

from __future__ import annotations

import pytest

from harness.agent.hooks import hook_type


@pytest.mark.parametrize(
    ("section", "kind"),
    [("cgroup_skb/egress", "cgroup_skb"), ("tp/sched/sched_switch", "tracepoint"),
     ("cgroup/connect4", "cgroup_sock"), ("fexit/tcp_close", "fentry"),
     ("lsm/file_open", "fentry"), ("lsm.s/bprm_check_security", "fentry"),
     ("uprobe", "uprobe"), ("uretprobe", "uretprobe"),
     ("kprobe/do_exit", "kprobe"), ("kretprobe/do_exit", "kretprobe")],
)  # fmt: skip
def test_each_section_has_its_type(section: str, kind: str) -> None:
    assert hook_type(section) == kind
