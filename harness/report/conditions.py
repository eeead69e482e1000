"""Under which conditions a run was made, as pairs of words; `html` and `markdown` show them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.analysis.summary import Summary
from harness.analysis.validity import Judged
from harness.model import FACTORIAL, IDLE_CPUS
from harness.plan import allotment, design
from harness.plan.experiment import Experiment
from harness.report import counters
from harness.results.about import About
from harness.wire.placement import names

ARRIVALS = {
    "periodic": "periodic: every window holds the same work, and requests hardly queue",
    "poisson": "Poisson, drawn by the run's seed: requests queue as those of many users do",
}


def measuring(summary: Summary) -> list[tuple[str, str]]:
    """How the meters were read, and what was done about the machine's noise."""
    e = summary.experiment
    return [
        ("window", f"{_ms(e.window_seconds)}, {_origin(summary, 'window_seconds')}"),
        ("guard", f"{_ms(e.guard_seconds)}, {_origin(summary, 'guard_seconds')}"),
        ("arrivals", _arrivals(e)),
        *_shared(e),
        ("service's CPUs", _service_cpus(summary)),
        ("idle CPUs", _idle(summary.about)),
        ("settings that disturb", _knobs(summary.about)),
        *_instructions(summary),
        ("cost of entry", _entry(summary.about)),
        *_workers(e),
        *_load(summary),
        ("telemetry", _telemetry(summary)),
        *_versions(summary),
        ("blocks", _blocks(summary)),
        *_pilot(summary),
        ("warm-up", _warm(summary.about)),
        ("trials run again", _again(summary)),
    ]


def _instructions(summary: Summary) -> list[tuple[str, str]]:
    """Whether the processor counted them; nothing of runs that did not try."""
    told = counters.told(summary)
    return [("instructions", told)] if told else []


def _shared(e: Experiment) -> list[tuple[str, str]]:
    """What is switched in the same windows."""
    if not e.has_shared:
        return []
    factors, arms = design.factors(e), sum(arm.method == FACTORIAL for arm in e.arms)
    text = (
        f"{len(factors) - 1} collectors, each by a pattern of its own in cycles of "
        f"{design.cycle(len(factors))} windows; {arms} arms share each trial"
    )
    return [("switched together", text)]


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:g} ms"


def _origin(summary: Summary, key: str) -> str:
    value = getattr(summary.experiment, key)
    if summary.about.instrument.get(key) == value:
        return "from the machine's certificate"
    default = Experiment.__dataclass_fields__[key].default
    return "the default: no certificate" if value == default else "set by the experiment"


def _arrivals(e: Experiment) -> str:
    """How requests were spaced, by service where it was not the same for all."""
    found = {name: ARRIVALS[e.load(name).arrivals] for name in e.workloads}
    kinds = set(found.values())
    if len(kinds) == 1:
        return kinds.pop()
    return "; ".join(f"{name}: {kind}" for name, kind in found.items())


def _workers(e: Experiment) -> list[tuple[str, str]]:
    """How many processes were the load, where it was more than one."""
    if e.load_workers == 1:
        return []
    return [("load workers", f"{e.load_workers} processes, each with its share of the arrivals")]


def _service_cpus(summary: Summary) -> str:
    had = summary.about.placement.get("workload") or ()
    if not had:
        return "not recorded"
    usable = summary.about.facts.get("cpus_usable") or ()
    whole = f" of {len(usable)}" if usable else ""
    most = summary.experiment.service_cpus
    limit = f", {most} at most were asked for" if most else ""
    return f"{len(had)}{whole} ({names(had)}){limit}"


def _idle(about: About) -> str:
    asked = about.experiment.get("idle_poll")
    polled = about.idle_poll
    if polled is None:
        return "not recorded: they halted, as far as is known"
    if polled:
        return "polled instead of halting, while the run lasted"
    return "halted: /dev/cpu_dma_latency could not be held" if asked else "halted, as asked for"


def _knobs(about: About) -> str:
    """What of the machine was not set as `harness doctor` advises, idle CPUs told apart."""
    facts = about.facts
    if "knobs" not in facts:
        return "not recorded"
    amiss = [name for name in facts.get("knobs_to_set", ()) if name != IDLE_CPUS]
    return "; ".join(f"{name}: {facts['knobs'].get(name)}" for name in amiss) or "none known"


def _entry(about: About) -> str:
    hooks = about.entry_ns
    if not hooks:
        return "not calibrated on this machine: left out of the bill"
    each = (f"{hook} {cost['entry_ns']:.0f} ns" for hook, cost in hooks.items()
            if cost.get("entry_ns") is not None)  # fmt: skip
    return "from the machine's certificate: " + ", ".join(each)


def _telemetry(summary: Summary) -> str:
    if summary.experiment.stack == "sink":
        return "to a small sink, which only notes what arrives"
    versions = summary.about.components or {}
    return "to the full stack: " + ", ".join(f"{name} {v}" for name, v in versions.items())


def _versions(summary: Summary) -> list[tuple[str, str]]:
    """Which versions of other people's collectors were measured, and how they were had."""
    found: dict[str, None] = {}
    for judged in summary.trials:
        for name, version in judged.record.extra.get("versions", {}).items():
            found[f"{name}: {version}"] = None
    return [("other people's collectors", "; ".join(found))] if found else []


def _load(summary: Summary) -> Iterator[tuple[str, str]]:
    """Where it came from, and how well its clock was known, if it came from elsewhere."""
    node = summary.about.load_node
    if not node:
        return
    to = f", which reached the service at {node['url']}" if node.get("url") else ""
    yield "load", f"from {node['target']}{to}; its CPU is in no figure of this machine"
    clocks = [c for j in summary.trials if (c := j.record.extra.get("clock"))]
    if clocks:
        worst, apart = (max(abs(c[key]) for c in clocks) for key in ("uncertainty_ns", "parted_ns"))
        ahead = clocks[-1]["ahead_ns"] / 1e9
        allowed = summary.experiment.guard_seconds / 10
        yield (
            "clock of the load",
            f"{ahead:+,.3f} s from the service's, known to {worst / 1e6:.2f} ms at worst "
            f"({_ms(allowed)} are allowed, a tenth of the guard); at most {apart / 1e6:.2f} ms "
            "further apart after a trial than before it, which is taken into account",
        )


def _pilot(summary: Summary) -> list[tuple[str, str]]:
    """What was decided by variances, and what was expected of it."""
    e, found = summary.experiment, summary.about.pilot
    if not e.pilot_blocks:
        return []
    if not found:
        return [("pilot", "the run ended before it had decided")]
    expected = ", ".join(
        f"{workload} ±{each['expected_percent']:.2g} %"
        for workload, each in found["workloads"].items()
    )
    return [
        (
            "pilot",
            f"after {e.pilot_blocks} blocks of each service the remaining "
            f"{found['left_seconds']:.0f} s were given by variances alone, never by effects: "
            f"{allotment.shares(e)}; expected for the widest interval of one collector: {expected}",
        )
    ]


def _planned(e: Experiment) -> str:
    """How many blocks each service was to have, by name where they differ."""
    each = {workload: e.blocks_of(workload) for workload in e.workloads}
    if len(set(each.values())) == 1:
        return f"{next(iter(each.values()))} planned"
    return f"{', '.join(f'{name} {number}' for name, number in each.items())} planned"


def _blocks(summary: Summary) -> str:
    planned = _planned(summary.experiment)
    early = summary.about.ended_early
    if not early:
        return f"{planned}, none left out"
    each = (f"{workload} ended after {how['blocks']}: {str(how['reason']).rstrip('.')}"
            for workload, how in early.items())  # fmt: skip
    return f"{planned}; " + "; ".join(each)


def _warm(about: About) -> str:
    """How long it took until the workloads were steady."""
    found = about.warmups
    if not found:
        return "not recorded"
    cold = sum(not each.get("steady", True) for each in found)
    seconds = [float(each["seconds"]) for each in found]
    text = f"{min(seconds):.0f} to {max(seconds):.0f} s until steady, {len(found)} processes"
    return f"{text}; {cold} not steady at the limit" if cold else text


def _again(summary: Summary) -> str:
    again = [j for j in summary.trials if j.record.trial.attempt]
    if not again:
        return "none"
    usable = sum(j.usable for j in again)
    return f"{len(again)}, of which {usable} could be used; each first attempt is listed below"


def fate(summary: Summary, judged: Judged) -> str:
    """What came of a trial that was left out: which later attempt stands for it, if any."""
    trial = judged.record.trial
    later = [
        j for j in summary.trials
        if j.record.trial.index == trial.index and j.record.trial.attempt > trial.attempt
    ]  # fmt: skip
    if not later:
        return "not run again"
    used = next((j for j in later if j.usable), None)
    return f"replaced by {used.record.trial.name}" if used else "run again, not usable either"


def facts(values: Mapping[str, object], skip: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Machine facts as pairs of words, nested ones in one line."""
    return [(_title(key), _plain(value)) for key, value in values.items() if key not in skip]


def _title(key: str) -> str:
    return key.replace("_", " ")


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{_title(str(k))} {_plain(v)}" for k, v in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_plain(each) for each in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.2f}".rstrip("0").rstrip(".")
    return str(value) if value not in ("", None) else "unknown"
