"""What is wrong with a submission that somebody else made: keys, kinds, ranges; `submission`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from harness.analysis import STATISTICS
from harness.analysis.claimed import METRICS

SCHEMA = 1
MACHINE = ("cpu_model", "cpus_online", "kernel", "architecture", "distribution", "virtualisation")
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "schema": int, "statistics": int, "version": str, "began": str, "target": str,
    "machine": dict, "versions": dict, "arms": dict, "rates": dict, "trials": dict,
    "silent": list, "harmed": list, "figures": list, "left_out": list, "sha256": str,
}  # fmt: skip
_NUMBER = (int, float)
_FIGURE: Mapping[str, type | tuple[type, ...]] = {
    "workload": str, "arm": str, "metric": str, "unit": str, "method": str, "n": int,
    "estimate": _NUMBER, "low": _NUMBER, "high": _NUMBER,
}  # fmt: skip
_OPTIONAL = ("mde", "level", "p")
_WORD = re.compile(
    r"[\w .,:;()+/%@=\[\]{}#'~*-]{0,300}"
)  # nothing that Markdown or HTML would take
_SIGNED = ("workload_cpu_percent", "latency_p99_us", "agent_memory_mb")  # differences may be < 0
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
    yield from _whole(found)
    for place, figure in enumerate(found["figures"]):
        yield from (f"figure {place}: {problem}" for problem in _figure(figure, found))


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
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", found["began"]):
        yield f"it began on {found['began']!r}, which is no date."
    if strangers := sorted(set(found["machine"]) - set(MACHINE)):
        yield f"it tells more of the machine than it should: {', '.join(strangers)}."
    cpus = found["machine"].get("cpus_online")
    if not isinstance(cpus, int) or not 1 <= cpus <= 100_000:
        yield f"its machine has {cpus!r} CPUs."
    if not all(_kinds(arm, {"collectors": str, "method": str}) == []
               for arm in found["arms"].values()):  # fmt: skip
        yield "an arm does not say its collectors and its method."
    if not all(_is_number(rate) and 0 < rate < _FAR for rate in found["rates"].values()):
        yield "a rate is no number of requests a second."
    for key in ("silent", "harmed"):
        if not all(isinstance(each, list) and len(each) == 2 for each in found[key]):
            yield f"{key} is no list of services and arms."
    if words := [word for word in _words(found) if not _WORD.fullmatch(word)]:
        yield f"it holds text that is no name: {words[0][:60]!r}."


def _figure(figure: Any, found: Mapping[str, Any]) -> Iterator[str]:
    if wrong := _kinds(figure, _FIGURE):
        yield f"it lacks {', '.join(wrong)}, or they are of another kind."
        return
    if strangers := sorted(set(figure) - set(_FIGURE) - set(_OPTIONAL)):
        yield f"unknown keys: {', '.join(strangers)}."
    metric, base = figure["metric"], figure["metric"].partition("[")[0]
    if metric not in METRICS and base != "coverage_percent":
        yield f"{metric} is no figure of a submission."
    if figure["arm"] not in found["arms"]:
        yield f"its arm {figure['arm']!r} is not among the arms."
    if not all(_is_number(figure[key]) for key in ("estimate", "low", "high")):
        yield f"{metric} has an end that is no number."
    elif not -_FAR < figure["low"] <= figure["high"] < _FAR:
        yield f"{metric} is from {figure['low']} to {figure['high']}, which is no interval."
    elif base not in _SIGNED and figure["low"] < 0:
        yield f"{metric} cannot be below zero, and is from {figure['low']}."
    elif figure["estimate"] > _MOST.get(base, _FAR):
        yield f"{metric} cannot be {figure['estimate']}."
    elif figure["n"] < 0:
        yield f"{metric} stands on {figure['n']} measurements."


def _is_number(value: Any) -> bool:
    return isinstance(value, _NUMBER) and not isinstance(value, bool) and math.isfinite(value)


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
