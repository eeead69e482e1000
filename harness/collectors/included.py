"""The included collectors, by name: what each claims to see; `spec` resolves names by REGISTRY."""

from __future__ import annotations

from harness.collectors.claim import printed_beside
from harness.collectors.definition import Definition

PROFILE_HZ = 19  # the rate of samples
_EVERY = ("interval", "drain", "ring-kib")  # what every agent accepts

HTTP = Definition(
    "http",
    "RED metrics of every HTTP/1.1 request, spans of a sample",
    "requests",
    "spans",
    printed_beside("http"),
    agent="http",
    accepts=(*_EVERY, "sample"),
    scope="harness.http",
    job="tracing",
    hooks=("cgroup_skb", "cgroup/sock_release", "tp_btf", "ring buffer", "atomics"),
)

FLOWS = Definition(
    "flows",
    "TCP connections: opened, closed, bytes, round-trip time, retransmits",
    "connections",
    "metrics",
    printed_beside("flows"),
    agent="flows",
    accepts=(*_EVERY, "peers", "peer-age", "udp", "drops"),
    scope="harness.flows",
    job="network",
    hooks=("tp_btf", "iter", "atomics"),
)

PROFILE = Definition(
    "profile",
    f"CPU stacks, user and kernel, at {PROFILE_HZ} Hz",
    "samples",
    "metrics",
    printed_beside("profile"),
    agent="profile",
    accepts=(*_EVERY, "frequency", "unwind"),
    options={"frequency": str(PROFILE_HZ)},
    scope="harness.profile",
    job="profiling",
    hooks=("perf_event",),
    writes_profiles=True,
)

GUARD = Definition(
    "guard",
    "Executions, sensitive files, outgoing connects; SIGKILL by policy",
    "executions",
    "logs",
    printed_beside("guard"),
    agent="guard",
    accepts=(*_EVERY, "policy", "watch", "open-hook"),
    options={"watch": "{workloads}/*/watched.txt"},  # which the services that ship open
    scope="harness.guard",
    job="security",
    hooks=("tp_btf", "cgroup/connect4", "ring buffer", "bpf_loop"),
    prefers=("lsm", "fentry"),
)

INJECT = Definition(
    "inject",
    "No collector: burns a stated time in the service, to see whether it is measured",
    None,
    None,
    agent="inject",
    accepts=(*_EVERY, "ns", "at", "agent-percent"),
    scope="harness.inject",
    hooks=("cgroup_skb", "cgroup/getsockopt", "bpf_loop"),
)

SHAM = Definition(
    "sham",
    "No collector: empty programs on the hooks of http and flows, to see what switching costs",
    None,
    None,
    agent="sham",
    accepts=(*_EVERY, "hooks"),
    scope="harness.sham",
    hooks=("cgroup_skb", "tp_btf"),
    prefers=("perf_event", "cgroup/connect4"),
)

REGISTRY: dict[str, Definition] = {
    "http": HTTP,
    "flows": FLOWS,
    "profile": PROFILE,
    "guard": GUARD,
    "inject": INJECT,
    "sham": SHAM,
}
