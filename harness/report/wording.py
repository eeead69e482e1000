"""Figures and sentences as people read them; html and markdown share them."""

from __future__ import annotations

import math

from harness.analysis import metrics
from harness.analysis.summary import Summary
from harness.model import BASELINE, Comparison

UNITS = {
    "us/request": "µs", "us/event": "µs", "us": "µs", "%": "%", "MB": "MB", "s": "s", "ms": "ms",
    "1/s": "/s", "1/request": "", "instructions/request": "instr.", "cycles/request": "cycles",
    "misses/request": "misses", "instructions/cycle": "a cycle", "MB/h": "MB/h",
}  # fmt: skip
NO_EVENTS = "no events under this load"
MINUS = "\N{MINUS SIGN}"
LEVEL = 0.05  # of the probability after Holm's correction below which a cost is resolved
METHODS = {
    "switch": "switched on and off within one process",
    "factorial": "switched on and off within one process, each collector by a pattern of its own",
    "twin": "two processes of the same program, one in the collectors' scope",
    "block": "installed for half of each trial",
}

# what the method of a figure says that was put together: its parts have numbers of their own
_OF_SEVERAL = ("slices", "sum of", "calibrated", "_cpu_us", "ratio of intervals")


def decimals(width: float) -> int:
    """Decimals that show two digits of an uncertainty of this width."""
    if not math.isfinite(width) or width <= 0:
        return 2
    return max(0, min(4, 1 - math.floor(math.log10(width))))


def number(value: float, places: int, signed: bool = False) -> str:
    """A number with a true minus sign; never a negative zero."""
    text = f"{abs(value):,.{places}f}"
    if not any(digit in "123456789" for digit in text):
        return text
    return (MINUS if value < 0 else "+" if signed else "") + text


def plain(value: float) -> str:
    """A magnitude to two significant digits, whole numbers in full."""
    if not math.isfinite(value):
        return "?"
    if value == 0:
        return "0"
    return number(value, max(0, min(5, 1 - math.floor(math.log10(abs(value))))))


def unit(row: Comparison) -> str:
    """The row's unit as printed; `a request` is said by the column."""
    return UNITS.get(row.unit, row.unit)


def apart(row: Comparison) -> bool:
    """Its interval, taken alone, does not contain zero."""
    return row.low > 0 or row.high < 0


def resolved(row: Comparison) -> bool:
    """By its p after Holm's correction; by its interval, where there is no such p.

    Of latency there are so many rows that none is called so without.
    """
    if row.metric.startswith("latency_"):
        return apart(row) and row.p_holm < LEVEL
    return row.p_holm < LEVEL if math.isfinite(row.p_holm) else apart(row)


def only_here(row: Comparison) -> bool:
    """It differs in the processes that were measured; the mean over processes may be nothing."""
    return resolved(row) and not apart(row)


def probability(p: float) -> str:
    """`0.013`, `< 0.001`; empty if there is none."""
    if not math.isfinite(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def noise(row: Comparison) -> str:
    """The A/A noise beside a figure: `0.47 µs`; empty if no A/A was compared in the same way."""
    return f"{plain(row.noise)} {unit(row)}" if math.isfinite(row.noise) else ""


def places(row: Comparison) -> int:
    """Decimals for a difference and its interval: two digits of its half width, or of itself.

    One more where a bound would else look like zero, and it helps.
    """
    if not math.isfinite(row.high - row.low):
        return decimals(abs(row.estimate))
    least = decimals((row.high - row.low) / 2)
    bounds = [abs(end) for end in (row.low, row.high) if end]
    near = (n for n in range(least, least + 2) if all(round(end, n) for end in bounds))
    return next(near, least)


def end(value: float, places: int) -> str:
    """A bound, with its sign also where its digits are all zeros: which side it is on is known."""
    text = number(value, places, signed=True)
    if value and text[0] not in ("+", MINUS):
        return ("+" if value > 0 else MINUS) + text
    return text


def change(row: Comparison) -> str:
    """`+0.55 µs`."""
    return f"{number(row.estimate, places(row), signed=True)} {unit(row)}"


def interval(row: Comparison, with_unit: bool = False) -> str:
    """`[+0.31, +0.79]` of a difference, at 95 %; of a value, what its brackets are."""
    if not metrics.metric(row.metric).difference:
        return spread(row)
    if not math.isfinite(row.low):
        return "too few data for an interval"
    low, high = (end(v, places(row)) for v in (row.low, row.high))
    return f"[{low}, {high}]" + (f" {unit(row)}" if with_unit else "")


def spread(row: Comparison) -> str:
    """`[1.0, 3.0], 95 %, 2 trials` or `[1.0, 3.0], range of 2 trials`, by the row's method."""
    if not math.isfinite(row.low):
        return "one trial" if row.n == 1 else f"no interval, {counted(row)}"
    if any(word in row.method for word in _OF_SEVERAL):
        return f"{bounds(row)}, 95 %"
    if plain(row.low) == plain(row.high):
        return f"the same in {counted(row)}" if row.n > 1 else "one trial"
    of = "range of" if "range" in row.method else "95 %,"
    return f"{bounds(row)}, {of} {counted(row)}"


def bounds(row: Comparison) -> str:
    """`[1.0, 3.0]` of a value."""
    return f"[{plain(row.low)}, {plain(row.high)}]"


def counted(row: Comparison) -> str:
    """What stands behind a value: `2 trials`, `32,481 events`, `13 samples`."""
    name, _, signal = row.metric.partition("[")
    kinds = {"lost_percent": "events", "error_percent": "requests"}
    kind = signal.rstrip("]") or kinds.get(name, "slices" if "slices" in row.method else "trials")
    return f"{row.n:,} {kind}" if row.n != 1 else f"1 {kind.removesuffix('s')}"


def relative(row: Comparison) -> str:
    """The difference in percent of the level with it off: `+1.7 %`."""
    if not row.level > 0:
        return ""
    scale = 100 / row.level
    width = (row.high - row.low) / 2 * scale
    shown = decimals(width if math.isfinite(width) else abs(row.estimate) * scale)
    return f"{number(row.estimate * scale, shown, signed=True)} %"


def floor(row: Comparison) -> str:
    """The smallest effect that would have been seen: `0.66 µs (1.9 %)`."""
    if not math.isfinite(row.mde):
        return "unknown"
    share = f" ({plain(100 * row.mde / row.level)} %)" if row.level > 0 else ""
    return f"{plain(row.mde)} {unit(row)}{share}"


def bound(row: Comparison) -> str:
    """The far end of the interval: what the effect is smaller than, `0.80 µs`."""
    return f"{number(max(abs(row.low), abs(row.high)), places(row))} {unit(row)}"


def is_null(summary: Summary, arm: str) -> bool:
    """Nothing is installed in this arm: an A/A comparison."""
    return not summary.experiment.arm(arm).collectors


def is_idle(summary: Summary, workload: str, arm: str) -> bool:
    """Whether its programs ran so rarely that its row is no cost."""
    return (workload, arm) in summary.idle


def arm_label(summary: Summary, arm: str) -> str:
    """The arm's name for a table."""
    found = summary.experiment.arm(arm)
    if not found.collectors:
        return "nothing (A/A)" if arm == BASELINE else f"nothing (A/A, {found.method})"
    count = len(found.collectors)
    return f"{arm} ({count} together)" if count > 1 else arm


def compared(summary: Summary, arm: str) -> str:
    """How the arm was compared: `switch`, `twin`, `block`, or `against old`."""
    found = summary.experiment.arm(arm)
    return f"against {', '.join(found.against)}" if found.against else found.method


def arm_phrase(summary: Summary, arm: str) -> str:
    """The arm as the subject of a sentence."""
    count = len(summary.experiment.arm(arm).collectors)
    return f"the {count} collectors together" if count > 1 else f"`{arm}`"


def place(target: str) -> str:
    """Where it was measured, as the beginning of a sentence."""
    if target == "local":
        return "On this machine"
    if target.startswith("ssh:"):
        return f"On {target.removeprefix('ssh:')}"
    said = dict(word.split("=", 1) for word in target.split(",")[1:])
    if "host" in said:
        return f"On {said['host']}"
    node = f"On the node {said['node']}" if "node" in said else "On a node"
    name = said.get("context") or said.get("name")
    return f"{node} of the cluster {name}" if name else f"{node} of a cluster"


def instead(summary: Summary, row: Comparison) -> str:
    """` instead of `old``; empty where a row is no comparison of two sets."""
    names = against(summary, row)
    return f" instead of {names}" if names else ""


def against(summary: Summary, row: Comparison) -> str:
    """The collectors that a row's are held against: "`old` and `other`"; or nothing."""
    return " and ".join(f"`{name}`" for name in summary.experiment.arm(row.arm).against)
