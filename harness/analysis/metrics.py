"""Every metric that a report can hold, with its unit and meaning; docs/report-schema.md lists it.

Two kinds: differences (on - off of the windows, or candidate - reference), and values of a
collector that is on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999}

CLIENT = "cpu.client"  # the load driver's meter
AGENT = "cpu.agent"  # that of all agents of an arm

# window meter -> metric: CPU of one payer per request, on - off
SWITCHED_CPU = {
    "cpu.workload": "workload_cpu_us",
    CLIENT: "client_cpu_us",
    "cpu.softirq": "softirq_cpu_us",
    "cpu.host": "host_cpu_us",
}

# the same of several payers, or of what others leave
COMBINED_CPU = {
    "context_cpu_us": ("cpu.workload", "cpu.client"),
    "unexplained_us": ("cpu.host",),
}

# the same of the processor's counters; IPC is that of instructions over cycles
COUNTED = {
    "instructions_per_request": "instructions",
    "cycles_per_request": "cycles",
    "cache_misses_per_request": "cache_misses",
}
IPC = "instructions_per_cycle"
ENABLED, RUNNING = "counters.enabled", "counters.running"  # s, that they were to count and did

# taken off a meter: an agent works by its own clock, in on and off windows alike
APART = {
    "host_cpu_us": (AGENT, "cpu.sink"),
    "unexplained_us": (AGENT, "cpu.sink", "cpu.workload", CLIENT),
}

# metrics of which a small value shows little: they are a part of the cost -> what is not in it
_LEFT_OUT = "what the programs make others pay (caches, scheduling, waiting) is not in it"
PARTS = {
    "bpf_us": f"entry to the programs, and {_LEFT_OUT}",
    "bpf_difference_us": f"entry to the programs, and {_LEFT_OUT}",
    "entry_us": _LEFT_OUT,
    "agent_us": "what is paid outside of the agent's cgroup is not in it",
    "agent_difference_us": "what is paid outside of the agents' cgroups is not in it",
    "bill_us": _LEFT_OUT,
    "bill_percent": _LEFT_OUT,
    "bpf_event_us": _LEFT_OUT,
    "bill_event_us": _LEFT_OUT,
    "idle_mcpu": "what else the machine spends for them meanwhile is not in it",
    "agent_driven_us": "what is paid outside of the agent's cgroup is not in it",
    "per_second_mcpu": "what else the machine spends for them meanwhile is not in it",
    "per_request_us": f"entry to the programs, and {_LEFT_OUT}",
    "tenth_rate_us": f"entry to the programs, and {_LEFT_OUT}",
}

# metrics that are told apart by a name in brackets, and what the name is
BRACKETS = {
    "coverage_percent": "signal",
    "agent_memory_slope_mb_h": "kind of memory other than RSS",
    **{f"latency_{name}_us": "route other than the primary" for name in PERCENTILES},
}


@dataclass(frozen=True)
class Metric:
    """Unit and meaning of a metric; `difference` says whether it is on - off."""

    unit: str
    meaning: str
    difference: bool = False


METRICS: dict[str, Metric] = {
    "workload_cpu_us": Metric(
        "us/request", "CPU of the workload's cgroup per request, on - off", True
    ),
    "workload_cpu_percent": Metric("%", "the same in percent of the level with it off", True),
    "client_cpu_us": Metric("us/request", "CPU of the load driver per request, on - off", True),
    "context_cpu_us": Metric(
        "us/request", "CPU of workload and load driver together per request, on - off", True
    ),
    "softirq_cpu_us": Metric(
        "us/request", "softirq time of the machine per request, on - off", True
    ),
    "host_cpu_us": Metric(
        "us/request", "busy CPU of the machine less agents and receiver, on - off", True
    ),
    "instructions_per_request": Metric(
        "instructions/request", "instructions of the workload per request, on - off", True
    ),
    "instructions_percent": Metric("%", "the same in percent of the level with it off", True),
    "cycles_per_request": Metric(
        "cycles/request", "cycles of a CPU in the workload per request, on - off", True
    ),
    "instructions_per_cycle": Metric(
        "instructions/cycle", "instructions of the workload in a cycle (IPC), on - off", True
    ),
    "cache_misses_per_request": Metric(
        "misses/request", "misses of the last cache in the workload per request, on - off", True
    ),
    "latency_p50_us": Metric("us", "median latency from the moment a request was due", True),
    "latency_p90_us": Metric("us", "90th percentile of latency, on - off", True),
    "latency_p99_us": Metric("us", "99th percentile of latency, on - off", True),
    "latency_p99_9_us": Metric("us", "99.9th percentile of latency, on - off", True),
    "bpf_us": Metric("us/request", "time inside the arm's BPF programs, entry not included"),
    "entry_us": Metric("us/request", "cost of entering the arm's BPF programs, by calibration"),
    "agent_us": Metric("us/request", "CPU of the arm's agents"),
    "sink_us": Metric("us/request", "CPU of the telemetry's receiver; not part of the bill"),
    "residual_us": Metric(
        "us/request", "context_cpu_us - bpf_us - entry_us (if calibrated): caches, scheduling", True
    ),
    "bill_us": Metric("us/request", "whole bill: BPF programs + entry (if calibrated) + agents"),
    "bill_percent": Metric("%", "whole bill in percent of the machine, at the rate driven"),
    "runs_per_request": Metric("1/request", "runs of the arm's BPF programs per request"),
    "events_per_request": Metric("1/request", "events that the sole collector counted per request"),
    "spans_per_request": Metric("1/request", "spans that the sole collector sent per request"),
    "bpf_event_us": Metric("us/event", "BPF programs and entry (if calibrated) per event"),
    "bill_event_us": Metric("us/event", "whole bill per event"),
    "idle_mcpu": Metric("mCPU", "agents and BPF programs while no request comes"),
    "agent_driven_us": Metric("us/request", "agent_us less its idle part: what requests cause"),
    "per_second_mcpu": Metric(
        "mCPU", "agents and BPF programs by the second: the line's value at no request"
    ),
    "per_request_us": Metric(
        "us/request", "agents and BPF programs by the request: the line's slope"
    ),
    "tenth_rate_us": Metric(
        "us/request", "agents and BPF programs at a tenth of the rate, by the line"
    ),
    "line_residual_mcpu": Metric(
        "mCPU", "agents and BPF programs at the low rate, metered less the line"
    ),
    "unexplained_us": Metric(
        "us/request", "host_cpu_us - context_cpu_us, window by window: no cgroup pays it", True
    ),
    "unexplained_percent": Metric(
        "%",
        "unexplained_us in percent of host_cpu_us + agent_us, where these are above zero",
        True,
    ),
    "capacity_per_s": Metric(
        "1/s", "requests a second answered well by the full service, on - off", True
    ),
    "capacity_percent": Metric("%", "the same in percent of what it answers with it off", True),
    "interaction_us": Metric(
        "us/request", "context_cpu_us of collectors together - the sum of each alone", True
    ),
    "bpf_difference_us": Metric(
        "us/request", "time inside BPF programs, candidate - reference", True
    ),
    "agent_difference_us": Metric("us/request", "CPU of the agents, candidate - reference", True),
    "agent_memory_difference_mb": Metric(
        "MB", "memory of the agents (PSS), candidate - reference", True
    ),
    "agent_memory_mb": Metric("MB", "memory of the arm's agents (PSS: shared pages are divided)"),
    "agent_peak_memory_mb": Metric("MB", "peak resident memory (RSS) of the arm's agents"),
    "agent_first_peak_memory_mb": Metric("MB", "the same up to the agents' first exports"),
    "agent_memory_slope_mb_h": Metric("MB/h", "growth of the agents' memory (RSS) under load"),
    "agent_memory_watched_min": Metric("min", "how long that was followed, after the warm-up"),
    "service_rss_mb": Metric("MB", "resident memory of a service with a collector within it"),
    "plain_rss_mb": Metric("MB", "resident memory of the same service without it, at the same age"),
    "service_heap_mb": Metric("MB", "memory of that service that no file backs: heap, stacks"),
    "plain_heap_mb": Metric("MB", "the same of the service without it"),
    "map_memory_mb": Metric("MB", "memory locked by the arm's BPF maps"),
    "map_memory_96_mb": Metric("MB", "the same on 96 CPUs, by formula, with full per-CPU maps"),
    "coverage_percent": Metric("%", "share of a signal's events whose telemetry arrived"),
    "lost_percent": Metric("%", "events lost / (events lost + events seen)"),
    "data_latency_p50_s": Metric("s", "request finished -> its telemetry arrived, median"),
    "data_latency_p99_s": Metric("s", "request finished -> its telemetry arrived, p99"),
    "load_s": Metric("s", "time to load BPF programs, the slowest agent's"),
    "attach_peak_memory_mb": Metric(
        "MB", "most resident (RSS) of another's processes while they started and attached"
    ),
    "attach_before_p99_ms": Metric("ms", "p99 of latency in the two seconds before that"),
    "attach_before_worst_ms": Metric("ms", "the slowest request of these"),
    "attach_meanwhile_p99_ms": Metric("ms", "p99 of latency while they started and attached"),
    "attach_meanwhile_worst_ms": Metric("ms", "the slowest request of these"),
    "startup_s": Metric("s", "until a service with a collector within answers"),
    "startup_plain_s": Metric("s", "until the same service without it answers"),
    "attach_ms": Metric("ms", "time of the first attaching of the arm's BPF programs"),
    "detach_ms": Metric("ms", "time of one detaching, before anything was seen"),
    "switch_ms": Metric("ms", "time that switching took at a window's edge, median of a trial"),
    "rate_per_s": Metric("1/s", "requests a second that were achieved"),
    "late_p99_ms": Metric("ms", "how late the load driver gave out requests, p99"),
    "error_percent": Metric("%", "requests that failed"),
}


def counted_share(meters: Iterable[Mapping[str, float]]) -> float | None:
    """In what share of the time the processor counted what it was to count; None: it was not."""
    both = [(m[ENABLED], m[RUNNING]) for m in meters if ENABLED in m]
    enabled = sum(each for each, _ in both)
    return sum(each for _, each in both) / enabled if enabled > 0 else None


def metric(name: str) -> Metric:
    """The metric of a row's name, whatever stands in brackets."""
    return METRICS[name.partition("[")[0]]
