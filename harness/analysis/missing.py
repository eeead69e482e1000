"""Why a figure that a report would show is not there, as a sentence; `summary` asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.analysis import blame, factorial, growth
from harness.model import FACTORIAL
from harness.plan.experiment import plan

if TYPE_CHECKING:
    from harness.analysis.summary import Summary

METERED = (
    "bpf_us", "entry_us", "bill_us", "bill_percent", "bpf_difference_us",
    "idle_mcpu", "agent_driven_us", "runs_per_request", "events_per_request", "spans_per_request",
    "bpf_event_us", "bill_event_us",
    "per_second_mcpu", "per_request_us", "tenth_rate_us", "line_residual_mcpu",
)  # fmt: skip

WITHIN = ("bpf_us", "entry_us", "agent_us", "idle_mcpu", "agent_driven_us", "map_memory_mb",
          "map_memory_96_mb", "load_s", "attach_ms", "detach_ms")  # fmt: skip
PART = ("bpf_us", "entry_us", "idle_mcpu", "agent_driven_us", "residual_us", "agent_memory_mb",
        "agent_peak_memory_mb", "agent_first_peak_memory_mb", "map_memory_mb",
        "map_memory_96_mb")  # fmt: skip
CAPACITY = ("capacity_per_s", "capacity_percent")
COUNTED = ("instructions_", "cycles_", "cache_misses_")
PARTLY = "Only windows without the collectors to blame are sound, and it is told of all together."
SEVERAL = "Events of several collectors are of different kinds."
OF_CLIENT = ("client_cpu_us", "context_cpu_us", "residual_us", "interaction_us")


def why(summary: Summary, workload: str, arm: str, metric: str) -> str:
    """Why a run has no such row, as a sentence."""
    for skipped in summary.about.skipped_arms:
        if skipped.get("arm") == arm:
            return f"The arm was skipped: {skipped.get('reason', 'no reason was given')}"
    if metric in WITHIN and summary.row(workload, arm, "startup_s") is not None:
        return "It runs in the service: it has no process or program of its own, its CPU is there."
    if metric == "bill_event_us" and (told := _eventless(summary, workload, arm)):
        return told
    if metric.startswith("bill") and summary.row(workload, arm, "startup_s") is not None:
        return "It runs in the service, and what that takes more is not above nothing."
    if _is_part(summary, arm):
        if metric in PART:
            return "It is a part of an agent, whose programs and memory are there without it, too."
        rows = [summary.row(workload, arm, each) for each in ("context_cpu_us", "agent_us")]
        if metric.startswith("bill") and all(rows):
            return "It is a part of an agent: the estimate of what it takes more is not above zero."
    kind = "metered" if metric in METERED else "saturated" if metric in CAPACITY else "switched"
    wanted = (workload, summary.experiment.trial_arm(arm), kind)
    if not any((t.workload, t.arm, t.kind) == wanted for t in plan(summary.experiment)):
        return "The plan has no trial that measures it."
    trials = [
        judged for judged in summary.trials
        if (judged.record.trial.workload, judged.record.trial.arm, judged.record.trial.kind)
        == wanted
    ]  # fmt: skip
    if not trials:
        return "The run ended before a trial that measures it."
    usable = [judged for judged in trials if judged.usable or judged.blamed]
    if not usable:
        return f"No usable trial ({trials[0].status}): {trials[0].reason}"
    view = factorial.view(summary.about, summary.experiment, summary.experiment.arm(arm))
    names = factorial.names(summary.about, summary.experiment)
    sound = [blame.sound(judged, (), names)[0] for judged in usable]
    if not any(view.has(record) for record in sound):
        left = sound[0].extra[factorial.LEFT_OUT]
        return f"It was left out: {next(left[name] for name in view.collectors if name in left)}"
    if not any(judged.usable for judged in usable):
        return f"{PARTLY} {' '.join(usable[0].blamed.values())}"
    return _unrecorded(summary, workload, arm, metric)


def _unrecorded(summary: Summary, workload: str, arm: str, metric: str) -> str:
    """Why usable trials do not tell it."""
    if metric in CAPACITY:
        mine = (s for s in summary.saturations if (s.workload, s.arm) == (workload, arm))
        return next((s.limit for s in mine if s.limit), "Too few windows were counted.")
    if metric.startswith("latency"):
        routes = (r for r in summary.routes if (r.workload, r.arm) == (workload, arm))
        told = (route.missing[metric] for route in routes if metric in route.missing)
        return next(told, "No request of this route was due in a window.")
    if metric.startswith("coverage_percent") and (silent := _signalless(summary, arm)):
        return f"{' and '.join(silent)} names no signal that could be counted."
    if metric.startswith("data_latency") and summary.experiment.stack == "full":
        return "Too few records were found while the backends were watched."
    if metric == "entry_us" and summary.row(workload, arm, "bpf_us"):
        if not summary.about.entry_ns:
            return "No certificate of this machine: `harness calibrate` measures what entry costs."
        return (
            "The cost of entry is not calibrated for a hook that ran, or hooks were not recorded."
        )
    if metric == "sink_us" and summary.experiment.arm(arm).method == FACTORIAL:
        return "The receiver took the telemetry of all collectors: no share of its CPU is one's."
    if summary.about.load_node and metric in OF_CLIENT:
        return "The load came from another machine, whose CPU is in no figure."
    if metric == "interaction_us" and len(summary.experiment.arm(arm).collectors) > 1:
        return "Not each of its collectors has an arm of its own, compared by the same method."
    if metric.startswith((growth.SLOPE, growth.WATCHED)):
        return (
            f"The collectors stayed on for {summary.experiment.steady_seconds:g} s: a slope of "
            f"their memory takes {growth.least_minutes():.0f} minutes (`harness evaluate hour`)."
        )
    if metric.startswith(COUNTED):
        return "The processor's counters were not read: `harness doctor` says what the machine has."
    if metric.endswith("_event_us") and summary.row(workload, arm, "runs_per_request"):
        if len(summary.experiment.arm(arm).collectors) > 1:
            return SEVERAL
        return "The load made no events for its programs, or it does not count them."
    if metric.startswith("bill") and summary.row(workload, arm, "bpf_us"):
        return why(summary, workload, arm, "agent_us")
    if metric.startswith(("unexplained", "residual")) and summary.experiment.arm(arm).against:
        return "The arm compares two sets: its differences are not one set's."
    if metric.startswith("unexplained") and summary.row(workload, arm, "host_cpu_us"):
        if summary.row(workload, arm, "bpf_us") is None:
            return why(summary, workload, arm, "bpf_us")
        return "The host's extra CPU cannot be told from zero: there is no share of it."
    return "The trials did not record it."


def _signalless(summary: Summary, arm: str) -> list[str]:
    """The collectors of an arm by their names, if it is known that none tells what it sees."""
    specs = summary.experiment.arm(arm).collectors
    known = [summary.about.collectors.get(spec, {}) for spec in specs]
    names = [str(each["name"]) for each in known if "name" in each and not each.get("signal")]
    return names if len(names) == len(specs) else []


def _eventless(summary: Summary, workload: str, arm: str) -> str:
    """Why an arm has no cost of an event, by what it saw; empty if its whole bill is not known.

    Empty, too, if its programs ran: `_unrecorded` says more of these.
    """
    if summary.row(workload, arm, "bill_us") is None:
        return ""
    if len(summary.experiment.arm(arm).collectors) > 1:
        return SEVERAL
    if _is_part(summary, arm):
        return (
            "It is a part of an agent: it told of the whole node, and its bill is of the service."
        )
    events = summary.row(workload, arm, "events_per_request")
    if events is not None and not events.estimate:
        return "It told of no event: there is no cost of one."
    if events is not None or summary.row(workload, arm, "runs_per_request"):
        return ""
    if summary.row(workload, arm, "coverage_percent[samples]"):
        return "What it took are samples, by the clock: there is no cost of an event."
    return "What it saw was not counted: there is no cost of an event."


def _is_part(summary: Summary, arm: str) -> bool:
    """Whether an arm has parts of agents that go on without them, and nothing else."""
    specs = summary.experiment.arm(arm).collectors
    kept = [summary.about.collectors.get(spec, {}) for spec in specs]
    return bool(kept) and all((each.get("subject") or {}).get("option") for each in kept)
