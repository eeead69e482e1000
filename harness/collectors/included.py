"""The included collectors, by name: what each claims to see; `spec` resolves names by REGISTRY."""

from __future__ import annotations

from harness.collectors.definition import Definition
from harness.model import Claim

PROFILE_HZ = 19  # the rate of samples
_GUIDE = "a deployment guide of 2025, 'measured on a 100-node cluster', no method given"
_EVERY = ("interval", "drain", "ring-kib")  # what every agent accepts

HTTP = Definition(
    "http",
    "RED metrics of every HTTP/1.1 request, spans of a sample",
    "requests",
    "spans",
    (
        Claim(
            "Beyla: < 0.5 % CPU, 50 MB; 500 ns a request",
            "Grafana Beyla documentation, performance page (2025-02), its own process only",
        ),
        Claim(
            "Beyla in the field: +43 % CPU in the traced Go service",
            "github.com/grafana/beyla/issues/2425",
        ),
    ),
    agent="http",
    accepts=(*_EVERY, "sample"),
    scope="harness.http",
    hooks=("cgroup_skb", "cgroup/sock_release", "ring buffer", "atomics"),
)

FLOWS = Definition(
    "flows",
    "TCP connections: opened, closed, bytes, round-trip time, retransmits",
    "connections",
    "metrics",
    (
        Claim(
            "Hubble: 1-15 %",
            "Cilium documentation, operations/performance/tuning",
        ),
    ),
    agent="flows",
    accepts=(*_EVERY, "peers", "peer-age", "udp"),
    scope="harness.flows",
    hooks=("tp_btf", "iter", "atomics"),
)

PROFILE = Definition(
    "profile",
    f"CPU stacks, user and kernel, at {PROFILE_HZ} Hz",
    "samples",
    "metrics",
    (
        Claim(
            "Parca: 0.6 % CPU, 200 MB",
            _GUIDE,
        ),
        Claim(
            "OTel eBPF profiler: <= 1 % CPU, <= 250 MB",
            "github.com/open-telemetry/opentelemetry-ebpf-profiler, README",
        ),
    ),
    agent="profile",
    accepts=(*_EVERY, "frequency"),
    options={"frequency": str(PROFILE_HZ)},
    scope="harness.profile",
    hooks=("perf_event",),
    writes_profiles=True,
)

GUARD = Definition(
    "guard",
    "Executions, sensitive files, outgoing connects; SIGKILL by policy",
    "executions",
    "logs",
    (
        Claim(
            "Tetragon: 0.5 % CPU, 100 MB",
            _GUIDE,
        ),
        Claim(
            "Tetragon: +10.6 % time for a kernel build, unfiltered",
            "Tetragon's own benchmark, since withdrawn (github.com/cilium/tetragon, 2023-10)",
        ),
    ),
    agent="guard",
    accepts=(*_EVERY, "policy", "watch", "open-hook"),
    options={"watch": "{workloads}/*/watched.txt"},  # which the services that ship open
    scope="harness.guard",
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
