"""Which type of hook a program takes, by its section; runtime tells it in the ready line."""

from __future__ import annotations

# libbpf's section prefix -> the type whose cost of entry is calibrated under this name. Probes at
# a function's return trap twice: they are types of their own, which are not calibrated.
_TYPES = {
    "raw_tp": "raw_tracepoint",
    "raw_tracepoint": "raw_tracepoint",
    "tp": "tracepoint",
    "cgroup": "cgroup_sock",  # cgroup/connect4, cgroup/sock_create, ...
    "sockops": "sock_ops",
    "cgroup/getsockopt": "cgroup_sockopt",
    "fexit": "fentry",
    "lsm": "fentry",  # the same trampoline
}


def hook_type(section: str) -> str:
    """`cgroup_skb` of `cgroup_skb/egress`, `tp_btf` of `tp_btf/sys_enter`, and so on."""
    prefix = section.partition("/")[0].split(".")[0]
    return _TYPES.get(section, _TYPES.get(prefix, prefix))
