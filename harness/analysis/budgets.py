"""Budgets: what a gate allows, read from a TOML file and checked; `gates` judges by them."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.analysis.metrics import BRACKETS, METRICS
from harness.errors import InputError

Kind = Literal["value", "increase"]
LIMITS = ("min", "max", "max_percent", "max_increase")
KEYS = ("metric", *LIMITS, "arm", "workload", "level")
LEVEL, LEAST_LEVEL = 0.95, 0.90  # of the interval that is judged: one-sided 2.5 and 5 %
RELATIVE = ("us/request", "us")  # units of which max_percent makes sense


@dataclass(frozen=True)
class Budget:
    """What a metric may be, in the metric's unit; a limit that is not set is infinite.

    `number` is its table's place in the file, from 1. A budget of the kind `increase` limits the
    difference to a stored run. No arms stand for every arm with collectors, no workloads for all.
    With `percent`, `most` follows from the run: that share of the service's CPU per request, or of
    the latency. `level` is that of the interval by which it is judged.
    """

    number: int
    metric: str
    least: float = -math.inf
    most: float = math.inf
    kind: Kind = "value"
    arms: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    percent: float | None = None
    level: float = LEVEL

    def covers(self, metric: str) -> bool:
        """Whether a row of this name is meant: `coverage_percent` alone means every signal's."""
        named = metric.partition("[")[0] if self.metric == "coverage_percent" else metric
        return named == self.metric


def load(path: Path) -> list[Budget]:
    """Read a budget file; InputError if it is missing or anything in it is wrong."""
    try:
        text = path.read_text()
    except OSError as error:
        raise InputError(
            f"Cannot read the budget {path}: {error.strerror}.",
            next_step="docs/gate.md says what stands in one; ci/budgets/example.toml is one.",
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not a text file.", str(error), "Save it as UTF-8, or give another file."
        ) from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(
            f"{path} is not valid TOML.", str(error), "Correct it there; strings stand in quotes."
        ) from error
    return from_dict(data, str(path))


def from_dict(data: Mapping[str, Any], origin: str = "the budget") -> list[Budget]:
    """Budgets from TOML's tables, one for each kind of limit; InputError names the table."""
    tables = data.get("budget")
    unknown = sorted(set(data) - {"budget"})
    if unknown or not isinstance(tables, list) or not tables:
        found = f"it has {', '.join(unknown)}" if unknown else "it has none"
        raise InputError(
            f"{origin} must consist of [[budget]] tables; {found}.",
            next_step='The least one: [[budget]] metric = "workload_cpu_percent" max = 2.0',
        )
    budgets: list[Budget] = []
    for number, table in enumerate(tables, 1):
        budgets += _budgets(number, table, f"Budget {number} of {origin}")
    return budgets


def _budgets(number: int, table: Any, where: str) -> Iterator[Budget]:
    if not isinstance(table, dict):
        raise InputError(f"{where} is not a table.", next_step="Begin each with a line [[budget]].")
    for key in table:
        if key not in KEYS:
            raise InputError(f"{where} has the unknown key {key!r}.", next_step=_nearest(key, KEYS))
    metric = _metric(table.get("metric"), where)
    limits = {key: _limit(table[key], key, where) for key in LIMITS if key in table}
    if not limits:
        raise InputError(f"{where} sets no limit.", next_step=f"Give one of {', '.join(LIMITS)}.")
    if limits.get("min", -math.inf) > limits.get("max", math.inf):
        raise InputError(
            f"{where}: its min is above its max, so nothing can pass.",
            next_step="Exchange them, or leave one out.",
        )
    arms, workloads = (
        _names(table[key], key, where) if key in table else () for key in ("arm", "workload")
    )
    level = _level(table["level"], where) if "level" in table else LEVEL
    if "min" in limits or "max" in limits:
        least, most = limits.get("min", -math.inf), limits.get("max", math.inf)
        yield Budget(number, metric, least, most, "value", arms, workloads, level=level)
    if "max_percent" in limits:
        percent, unit = limits["max_percent"], METRICS[metric.partition("[")[0]].unit
        if unit not in RELATIVE:
            raise InputError(
                f"{where}: max_percent is for metrics in us/request or us, {metric} is in {unit}.",
                next_step="Give max instead.",
            )
        yield Budget(number, metric, arms=arms, workloads=workloads, percent=percent, level=level)
    if "max_increase" in limits:
        most = limits["max_increase"]
        yield Budget(number, metric, -math.inf, most, "increase", arms, workloads, level=level)


def _metric(name: Any, where: str) -> str:
    if not isinstance(name, str):
        raise InputError(f"{where} names no metric.", next_step='E.g. metric = "bill_percent".')
    base, bracket, _ = name.partition("[")
    if base not in METRICS:
        raise InputError(
            f"{where} names the metric {base!r}, which is not known.",
            next_step=_nearest(base, METRICS),
        )
    if bracket and (base not in BRACKETS or not name.endswith("]")):
        raise InputError(
            f"{where}: {name!r} is no metric's name.",
            next_step=f"In brackets stands a {BRACKETS[base]}, as in {base}[NAME]."
            if base in BRACKETS
            else f"{base} is not divided further.",
        )
    return name


def _limit(value: Any, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(
            f"{where}: {key} must be a number, not {value!r}.",
            next_step=f"Write it without quotes and unit, as in {key} = 2.0",
        )
    return float(value)


def _level(value: Any, where: str) -> float:
    level = _limit(value, "level", where)
    if not LEAST_LEVEL <= level <= LEVEL:
        raise InputError(
            f"{where}: level must lie between {LEAST_LEVEL:g} and {LEVEL:g}, not at {level:g}.",
            next_step="0.9 judges by the 90 % interval: one-sided 5 %. The default is 0.95.",
        )
    return level


def _names(value: Any, key: str, where: str) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value) if _listed(value) else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InputError(
            f"{where}: {key} must be a name or a list of names, not {value!r}.",
            next_step=f'Write {key} = "NAME" or {key} = ["ONE", "OTHER"].',
        )
    return names


def _listed(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    others = ", ".join(sorted(known)) if len(known) < 10 else "see docs/report-schema.md"
    return f"The nearest is {near[0]}; all: {others}." if near else f"All: {others}."
