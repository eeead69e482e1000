"""What is wrong with an experiment, in sentences; `experiment` refuses one by the first.

What belongs to a part of the design is asked of that part: methods, saturated trials, a pilot.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, get_args

from harness.collectors import subject
from harness.collectors.spec import is_placed
from harness.model import BASELINE, FACTORIAL, Arm, Arrivals
from harness.plan import allotment, methods, saturation

if TYPE_CHECKING:
    from harness.plan.experiment import Experiment

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")  # they become parts of folder names


def of(e: Experiment) -> Iterator[str]:
    """Every problem, as what follows "cannot be run:"."""
    yield from _kinds(e)
    names = [arm.name for arm in e.arms]
    if not e.workloads:
        yield "it names no workload."
    for kind, given in (("a workload", e.workloads), ("an arm", names)):
        for name in given:
            if not _NAME.fullmatch(name):
                yield (
                    f"{name!r} cannot name {kind}: only lower-case letters, digits, - and _ can, "
                    "with a letter or a digit first."
                )
    if len(set(names)) < len(names):
        yield "two arms have the same name."
    if e.arms and BASELINE not in names:
        yield f"it needs an arm named {BASELINE!r} without collectors, to know its own noise."
    for arm in e.arms:
        yield from _of_arm(arm)
    if not e.arms:
        yield "it names no arms."
    negative = ("warmup_seconds", "settle_seconds", "metered_seconds", "calibration_seconds")
    for name in (*negative, "idle_seconds"):
        if getattr(e, name) < 0:
            yield f"{name} must not be negative."
    if e.calibration_seconds < 0.5:
        yield "calibration_seconds must be at least 0.5."
    if e.blocks < 1:
        yield "blocks must be at least 1."
    if e.min_blocks < 1:
        yield "min_blocks must be at least 1."
    if e.warmup_limit_seconds < e.warmup_seconds:
        yield "warmup_limit_seconds must not be less than warmup_seconds."
    if not 0 <= e.replacements <= 5:
        yield "replacements must lie between 0 and 5."
    if type(e.service_cpus) is not int or e.service_cpus < 0:
        yield "service_cpus must be a whole number, 0 (all that are left) or more."
    yield from _load_workers(e)
    for name in ("precision_percent", "budget_seconds"):
        value = getattr(e, name)
        if value is not None and value <= 0:
            yield f"{name} must be positive."
    if not 0.01 <= e.window_seconds <= 5:
        yield "window_seconds must lie between 0.01 and 5."
    if not 0 <= e.guard_seconds < e.window_seconds / 2:
        yield "guard_seconds must be less than half of window_seconds."
    if e.quadruples < 4:
        yield "switched_seconds must hold at least 4 quadruples of windows."
    yield from methods.problems(e)
    yield from saturation.problems(e)
    yield from allotment.problems(e)
    if not 0 <= e.low_rate_fraction < 1:
        yield "low_rate_fraction must lie in [0, 1); 0 is none."
    if e.steady_seconds < 0.5:
        yield "steady_seconds must be at least 0.5."
    if e.stack not in ("sink", "full"):
        yield f"its stack is sink or full, not {e.stack!r}."
    if not 1 <= e.watched_seconds <= 300:
        yield "watched_seconds must lie between 1 and 300."
    if set(e.loads) - set(e.workloads):
        yield f"loads are given for {', '.join(sorted(set(e.loads) - set(e.workloads)))}, not run."
    for name, item in e.loads.items():
        for key in ("rate", "max_rate"):
            if (value := getattr(item, key)) is not None and value <= 0:
                yield f"loads.{name}.{key} must be positive."
        if not 0 < item.fraction <= 0.9:
            yield f"loads.{name}.fraction must lie in (0, 0.9]."
        if item.connections < 1:
            yield f"loads.{name}.connections must be at least 1."
        if item.arrivals not in get_args(Arrivals):
            yield (
                f"loads.{name}.arrivals is {' or '.join(get_args(Arrivals))}, "
                f"not {item.arrivals!r}."
            )


def _load_workers(e: Experiment) -> Iterator[str]:
    if type(e.load_workers) is not int or e.load_workers < 1:
        yield "load_workers must be a whole number, 1 or more."
        return
    for name in e.workloads:
        if e.load_workers > (connections := e.load(name).connections):
            yield (
                f"{e.load_workers} load workers cannot share the {connections} connections to "
                f"{name!r}: each needs one. Set load_workers lower, or loads.{name}.connections "
                "higher."
            )
    twins = [arm.name for arm in e.arms if arm.method == "twin"]
    if e.load_workers > 1 and twins:
        yield (
            f"arm {twins[0]!r} has the method twin, whose load is aimed at the edge of each window "
            "and so comes from one process: load_workers is 1 there."
        )


def _of_arm(arm: Arm) -> Iterator[str]:
    named = [*arm.collectors, *arm.against]
    switched = ("switch", FACTORIAL)
    if arm.name == BASELINE and (named or arm.method not in switched):
        yield f"arm {arm.name!r} has no collectors and is switched."
    if not arm.collectors and arm.name != BASELINE and arm.method in switched:
        yield f"arm {arm.name!r}: only {BASELINE!r} has no collectors."
    if arm.method not in (*switched, "twin", "block"):
        known = "switch, factorial, twin or block"
        yield f"arm {arm.name!r}: its method is {known}, not {arm.method!r}."
    if any(map(is_placed, named)) and arm.method != "block":
        yield (
            f"arm {arm.name!r} has what a cluster runs on its nodes, which nothing can switch: "
            "its method is block."
        )
    yield from _of_subjects(arm)
    if arm.against and arm.method != "switch":
        yield f"arm {arm.name!r}: only a switched arm can be compared against collectors."
    if any(len(set(each)) < len(each) for each in (arm.collectors, arm.against)):
        yield f"arm {arm.name!r} names a collector twice."


def _of_subjects(arm: Arm) -> Iterator[str]:
    """What is wrong with other people's collectors in it: what nothing can switch, or turn off."""
    within = [spec for spec in arm.collectors if subject.is_within(spec)]
    if within and arm.method != "twin":
        yield (
            f"arm {arm.name!r} has {within[0]!r}, which runs in the service's own process: its "
            "method is twin, one process with it beside one without."
        )
    elif arm.method not in ("twin", "block") and subject.method((*arm.collectors, *arm.against)):
        yield (
            f"arm {arm.name!r} has somebody else's collector, which cannot be told to switch: its "
            "method is twin or block."
        )
    if len(within) > 1:
        yield (
            f"arm {arm.name!r} has {' and '.join(within)} in one process, and each takes the "
            "service over: give each an arm of its own."
        )


def _kinds(e: Experiment) -> Iterator[str]:
    """What is no number where one is needed: TOML's nan and inf are none that can be compared."""
    for each in dataclasses.fields(e):
        value, default = getattr(e, each.name), each.default
        if type(default) is int and type(value) is not int:
            yield f"{each.name} must be a whole number."
        optional = each.name in ("precision_percent", "budget_seconds") and value is not None
        if (type(default) is float or optional) and not _is_number(value):
            yield f"{each.name} must be a number."
    for name, item in e.loads.items():
        if type(item.connections) is not int:
            yield f"loads.{name}.connections must be a whole number."
        for key in ("rate", "fraction", "max_rate"):
            value = getattr(item, key)
            if value is not None and not _is_number(value):
                yield f"loads.{name}.{key} must be a number."


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
