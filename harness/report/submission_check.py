"""What is wrong with a submission that somebody else made: keys, kinds, ranges; `submission`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any

from harness.analysis import STATISTICS, controls, coverage, metrics
from harness.analysis.claimed import METRICS
from harness.report import stored

SCHEMA = 1
MACHINE = ("cpu_model", "cpus_online", "kernel", "architecture", "distribution", "virtualisation")
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "schema": int, "statistics": int, "version": str, "began": str, "target": str,
    "machine": dict, "versions": dict, "arms": dict, "rates": dict, "trials": dict,
    "silent": list, "harmed": list, "figures": list, "left_out": list, "sha256": str,
}  # fmt: skip
_NUMBER = (int, float)
_ARM = {"collectors": str, "method": str}
_FIGURE: Mapping[str, type | tuple[type, ...]] = {
    "workload": str, "arm": str, "metric": str, "unit": str, "method": str, "n": int,
    "estimate": _NUMBER, "low": _NUMBER, "high": _NUMBER,
}  # fmt: skip
_OR_NONE = ("mde", "level", "p")  # a number, or null where it is not defined
CPU = "workload_cpu_percent"  # what an A/A arm is believed by
_COVERAGE = re.compile(r"coverage_percent\[[a-z_]+\]")
_WORD = re.compile(
    r"[\w .,:;()+/%@=\[\]{}#'~*-]{0,300}"
)  # nothing that Markdown or HTML would take
_SIGNED = (CPU, "latency_p99_us", "agent_memory_mb")  # differences may be < 0
_MOST = {"bill_percent": 100.0, "coverage_percent": 200.0}
_FAR = 1e12


def problems(found: Any, checksum: Callable[[Mapping[str, Any]], str]) -> Iterator[str]:
    """Sentences, the first the one to begin with; none if it is as `harness submit` writes it."""
    if not isinstance(found, dict):
        yield "it is no JSON object."
        return
    if found.get("schema") != SCHEMA:
        yield f"its schema is {found.get('schema')!r}, and this version reads {SCHEMA}."
        return
    wrong = _kinds(found, _KINDS)
    if wrong or set(found) != set(_KINDS):
        yield f"it lacks, or has besides: {', '.join(wrong or sorted(set(found) ^ set(_KINDS)))}."
        return
    if found["sha256"] != checksum(found):
        yield "it was changed or damaged after it was written: its checksum is of something else."
        return
    wrong = list(_whole(found))
    for place, figure in enumerate(found["figures"]):
        wrong += (f"figure {place}: {problem}" for problem in _figure(figure, found))
    yield from wrong or _controls(found)


def is_known(metric: str) -> bool:
    """Whether a submission tells of it."""
    of_a_run = metric in METRICS and metric.partition("[")[0] in metrics.METRICS
    return of_a_run or _COVERAGE.fullmatch(metric) is not None


def _kinds(values: Any, kinds: Mapping[str, type | tuple[type, ...]]) -> list[str]:
    """The keys that are not there, or of another kind; a truth value is no number."""
    if not isinstance(values, dict):
        return sorted(kinds)
    return [
        key for key, kind in kinds.items()
        if not isinstance(values.get(key), kind) or isinstance(values[key], bool)
    ]  # fmt: skip


def _whole(found: Mapping[str, Any]) -> Iterator[str]:
    if not 1 <= found["statistics"] <= STATISTICS:
        yield f"its statistics are {found['statistics']}, and this version knows {STATISTICS}."
    if not _is_date(found["began"]):
        yield f"it began on {found['began'][:60]!r}, which is no date."
    yield from _machine(found["machine"])
    if not all(_kinds(arm, _ARM) == [] and set(arm) == set(_ARM)
               for arm in found["arms"].values()):  # fmt: skip
        yield "an arm does not say its collectors and its method, or more than these."
    if not all(_is_number(rate) and 0 < rate < _FAR for rate in found["rates"].values()):
        yield "a rate is no number of requests a second."
    if not all(isinstance(each, str) for each in (*found["versions"].values(), *found["left_out"])):
        yield "a version, or what was left out, is no text."
    if not all(_is_count(number) for number in found["trials"].values()):
        yield "trials are no numbers of trials."
    for key in ("silent", "harmed"):
        if not all(_is_pair(each) for each in found[key]):
            yield f"{key} is no list of services and arms."
    if words := [word for word in _words(found) if not _WORD.fullmatch(word)]:
        yield f"it holds text that is no name: {words[0][:60]!r}."


def _machine(machine: Mapping[str, Any]) -> Iterator[str]:
    if strangers := sorted(set(machine) - set(MACHINE)):
        yield f"it tells more of the machine than it should: {', '.join(strangers)}."
    cpus = machine.get("cpus_online")
    if not isinstance(cpus, int) or not _is_count(cpus) or not 1 <= cpus <= 100_000:
        yield f"its machine has {cpus!r} CPUs."
    for key in set(MACHINE) - {"cpus_online"}:
        if not isinstance(machine.get(key, ""), (str, type(None))):
            yield f"its machine's {key} is no text."


def _figure(figure: Any, found: Mapping[str, Any]) -> Iterator[str]:
    if wrong := _kinds(figure, _FIGURE):
        yield f"it lacks {', '.join(wrong)}, or they are of another kind."
        return
    if other := sorted(set(figure) ^ {*_FIGURE, *_OR_NONE}):
        yield f"it lacks, or has besides: {', '.join(other)}."
        return
    metric = figure["metric"]
    if not is_known(metric):
        yield f"{metric} is no figure of a submission."
        return
    if figure["unit"] != metrics.metric(metric).unit:
        yield f"{metric} is in {metrics.metric(metric).unit}, and not in {figure['unit']}."
    if figure["method"].startswith(coverage.POOLED) and not metric.startswith("coverage"):
        yield f"{metric} is no share, and is said to be one."
    if figure["arm"] not in found["arms"]:
        yield f"its arm {figure['arm']!r} is not among the arms."
    if not all(figure[key] is None or _is_number(figure[key]) for key in _OR_NONE):
        yield f"{', '.join(_OR_NONE)} of {metric} are no numbers."
    elif figure["p"] is not None and not 0 <= figure["p"] <= 1:
        yield f"{metric} has a p of {figure['p']}."
    yield from _interval(figure, metric.partition("[")[0])


def _interval(figure: Mapping[str, Any], base: str) -> Iterator[str]:
    low, estimate, high = (figure[key] for key in ("low", "estimate", "high"))
    if not all(map(_is_number, (low, estimate, high))):
        yield f"{base} has an end that is no number."
    elif not -_FAR < low <= estimate <= high < _FAR:
        yield f"{base} is {estimate}, from {low} to {high}, which is no interval."
    elif base not in _SIGNED and low < 0:
        yield f"{base} cannot be below zero, and is from {low}."
    elif estimate > _MOST.get(base, _FAR):
        yield f"{base} cannot be {estimate}."
    elif not _is_count(figure["n"]):
        yield f"{base} stands on {figure['n']} measurements."


def _controls(found: Mapping[str, Any]) -> Iterator[str]:
    """What `harness submit` asks of a run, too: an A/A arm that finds nothing, for each service."""
    rows = {(f["workload"], f["arm"], f["metric"]): f for f in found["figures"]}
    if len(rows) < len(found["figures"]):
        yield "it has two figures of one service, arm and metric."
    nulls = [name for name, arm in found["arms"].items() if not arm["collectors"]]
    if not rows or not nulls:
        yield "it has no figures, or no arm with nothing installed (A/A) to believe them by."
    for workload in sorted({workload for workload, _, _ in rows}):
        of = [rows[workload, arm, CPU] for arm in nulls if (workload, arm, CPU) in rows]
        if not of:
            yield f"its A/A arm has no {CPU} of {workload}."
        elif any(controls.excludes_zero(stored.comparison(each)) for each in of):
            yield f"its A/A failed: with nothing installed the CPU of {workload} differs."


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and list(map(type, value)) == [str, str]


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _FAR


def _is_number(value: Any) -> bool:
    """One that is no truth value, and that a float holds."""
    is_one = isinstance(value, _NUMBER) and not isinstance(value, bool)
    return is_one and -sys.float_info.max <= value <= sys.float_info.max


def _words(value: Any) -> Iterator[str]:
    """Every text in it, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from (str(key), *_words(each))
    elif isinstance(value, list):
        for each in value:
            yield from _words(each)
