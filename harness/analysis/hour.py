"""Whether a run was measured in an hour like that of its machine's certificate.

`calibration` keeps what the certificate's trials met, `summary` holds a run's against it. Only what
does not depend on the service is compared, and the time of a request where it is the same service.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.analysis.capacity import SEEN
from harness.analysis.validity import Judged
from harness.model import FACTORIAL, Load, Trial, WindowRow
from harness.plan.experiment import Experiment
from harness.results.about import About

KEY = "hour"
"""Of a certificate: the quantities below, each with its `low`, `middle` and `high` over trials."""
WORDS = {
    "others_share": ("CPUs that somebody else used, %", 100.0),
    "steal_share": ("CPUs that the hypervisor took, %", 100.0),
}
"""What they are called, and by what they are shown; of `request_us[SERVICE]` the name says it."""
_LEAST = 2  # trials that a range needs
_NOT_GROUPS = ("cpu.host", "cpu.softirq", "cpu.steal")

Windows = Mapping[Trial, Sequence[WindowRow]]
Found = Mapping[str, Sequence[float]]


def met(about: About, e: Experiment, trials: Sequence[Judged], windows: Windows) -> Found:
    """What each usable switched trial met, by quantity.

    `steal_share` and `others_share` of all CPUs' time: what the hypervisor took, and what ran
    beside the service, the load and the collectors. `request_us[SERVICE]`: CPU of a request while
    no collector was on; of another load than the usual one it is in the brackets, too.
    """
    found: dict[str, list[float]] = {}
    cpus = about.facts.get("cpus_online") or 0
    for judged in trials:
        record, rows = judged.record, windows.get(judged.record.trial, ())
        if not judged.usable or record.trial.kind != "switched" or not rows:
            continue
        for value in record.values:
            if value.metric == "steal_share" and not value.labels:
                found.setdefault("steal_share", []).append(value.value)
        if (others := _others(rows, cpus)) is not None:
            found.setdefault("others_share", []).append(others)
        if (request := _request_us(_off(e, record.trial, rows))) is not None:
            found.setdefault(_request(e, record.trial.workload), []).append(request)
    return found


def of_certificate(found: Found) -> dict[str, dict[str, float]]:
    """What a certificate keeps of it: of each quantity the range over its trials."""
    return {
        name: {"low": min(each), "middle": statistics.median(each), "high": max(each)}
        for name, each in found.items()
        if len(each) >= _LEAST
    }


def unlike(about: About, e: Experiment, found: Found) -> Iterator[str]:
    """One sentence if a run met something that its machine's certificate did not; else none.

    That is so if the middle of the run's trials lies beyond the certificate's trials, and farther
    beyond than those lie apart among themselves: both bounds are the certificate's own.
    """
    known = about.instrument.get(KEY) or {}
    told = []
    for name, said, form, least in _quantities(about, e):
        if name not in known or not found.get(name):
            continue
        now, then = statistics.median(found[name]), known[name]
        if _is_beyond(now, then, least):
            told.append(said.format(form(now), form(then["low"]), form(then["high"])))
    if told:
        made = str(about.instrument.get("made") or "")[:16].replace("T", " ")
        yield (
            f"This hour is unlike that of the machine's certificate{f' ({made})' if made else ''}: "
            f"{'; '.join(told)}. What the certificate says of this machine, such as how small an "
            "effect it shows, was found in another hour; the intervals here are of this one."
        )


def _is_beyond(now: float, known: Mapping[str, Any], least: float = 0.0) -> bool:
    """Whether it is; what was below `least` then and now is not worth a word."""
    apart = known["high"] - known["low"]
    outside = now > known["high"] + apart or now < known["low"] - apart
    return bool(outside and max(now, known["high"]) > least)


def _quantities(
    about: About, e: Experiment
) -> Iterator[tuple[str, str, Callable[[float], str], float]]:
    """Each with what is said of it: the middle of the trials now, the range then; from which on."""
    yield "others_share", "others used {} of the CPUs ({} to {} then)", _percent, SEEN
    yield "steal_share", "the hypervisor took {} of the CPUs ({} to {} then)", _percent, SEEN
    service = str(about.instrument.get("workload") or "")
    said = f"a request of {service} took {{}} of CPU ({{}} to {{}} then)"
    yield _request(e, service), said, lambda us: f"{us:.3g} µs", 0.0


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _request(e: Experiment, service: str) -> str:
    """Its name: only requests of one load are compared, they cost more where fewer come."""
    load = e.load(service)
    return f"request_us[{service}]" if load == Load() else f"request_us[{service}, {load}]"


def _others(rows: Sequence[WindowRow], cpus: int) -> float | None:
    """Of all CPUs' time, what nobody's cgroup of ours used; None where that is not known."""
    seconds = cpus * sum(row.meters["seconds"] for row in rows)
    if not seconds or any("cpu.host" not in row.meters for row in rows):
        return None
    ours = sum(
        value
        for row in rows
        for name, value in row.meters.items()
        if name.startswith("cpu.") and name not in _NOT_GROUPS
    )
    return max(0.0, sum(row.meters["cpu.host"] for row in rows) - ours) / seconds


def _off(e: Experiment, trial: Trial, rows: Sequence[WindowRow]) -> list[WindowRow]:
    """The windows in which no collector was on; none where the service has a twin, or is a half."""
    arm = e.arm(trial.arm)
    if arm.method not in ("switch", FACTORIAL) or arm.against:
        return []
    return [row for row in rows if not arm.collectors or not row.window.on]


def _request_us(rows: Sequence[WindowRow]) -> float | None:
    requests = sum(row.meters["requests"] for row in rows)
    return 1e6 * sum(row.meters["cpu.workload"] for row in rows) / requests if requests else None
