"""Which trials may be used: stated rules that look at conditions, never at results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.analysis import factorial, pairs
from harness.model import FACTORIAL, Method, WindowRow
from harness.plan import design, saturation
from harness.plan.experiment import Experiment
from harness.results.run import TrialRecord
from harness.wire import failures

MAX_ERROR_SHARE = 0.001
MIN_RATE_SHARE = 0.98
# Small virtual machines lose several per cent at all times, on and off alike.
MAX_STEAL_SHARE = 0.25
MAX_THROTTLED_SHARE = 0.01
MAX_STALL_SHARE = 0.1
# A service's own threads wait for each other too, so that much of this is its own doing.
MAX_CPU_WAIT_SHARE = 0.5
MIN_WHOLE_SHARE = 0.8


@dataclass(frozen=True)
class Judged:
    """A trial with the rules that it broke, each a sentence; only usable ones are estimated.

    `only_errors` is whether failed requests broke the only one, `passing` whether what may pass by
    itself broke any: the machine, its neighbours, a limit that is nearly met. `blamed` are the
    collectors of a shared trial that failed requests go with, and why: the others are still told
    from windows without those.
    """

    record: TrialRecord
    violations: tuple[str, ...]
    only_errors: bool = False
    passing: bool = False
    blamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """It ended well and broke no rule."""
        return self.record.status == "ok" and not self.violations

    @property
    def status(self) -> str:
        """ok, invalid, failed or skipped."""
        return "invalid" if self.record.status == "ok" and self.violations else self.record.status

    @property
    def reason(self) -> str:
        """Why it is not used."""
        return " ".join(part for part in (self.record.reason, *self.violations) if part)


def _errors(values: Mapping[str, float]) -> str:
    total, errors = values.get("requests_total", 0.0), values.get("errors_total", 0.0)
    return (
        f"{errors:.0f} of {total:.0f} requests failed (limit {MAX_ERROR_SHARE:.1%})."
        if errors > MAX_ERROR_SHARE * total
        else ""
    )


def _rate(values: Mapping[str, float]) -> str:
    asked = values.get("rate_asked", 0.0)
    got = values.get("rate_achieved", asked)
    return (
        f"{got:.0f} of {asked:.0f} requests a second were achieved (limit {MIN_RATE_SHARE:.0%})."
        if got < MIN_RATE_SHARE * asked
        else ""
    )


def _steal(values: Mapping[str, float]) -> str:
    share = values.get("steal_share", 0.0)
    return (
        f"The hypervisor took {share:.1%} of the CPU (limit {MAX_STEAL_SHARE:.0%})."
        if share > MAX_STEAL_SHARE
        else ""
    )


def _throttled(values: Mapping[str, float]) -> str:
    share = values.get("throttled_share", 0.0)
    return (
        f"A CPU limit held the service back for {share:.1%} of the time "
        f"(limit {MAX_THROTTLED_SHARE:.0%})."
        if share > MAX_THROTTLED_SHARE
        else ""
    )


def _pressure(values: Mapping[str, float]) -> str:
    limits = {
        "cpu": ("a CPU", MAX_CPU_WAIT_SHARE),
        "memory": ("memory", MAX_STALL_SHARE),
        "io": ("a disk", MAX_STALL_SHARE),
    }
    return " ".join(
        f"The service waited for {what} in {share:.1%} of the time (limit {limit:.0%})."
        for name, (what, limit) in limits.items()
        if (share := values.get(f"{name}_pressure_share", 0.0)) > limit
    )


UNFILLED = "unfilled"  # of a trial's extra: what the load driver reached, full itself

Rule = Callable[[Mapping[str, float]], str]

RULES: tuple[Rule, ...] = (_steal, _throttled, _pressure)  # and `_errors`, told first
# A metered trial reads the time in BPF programs a run, which a late driver does not change.
SWITCHED_RULES: tuple[Rule, ...] = (_rate,)
STATED = (
    "the load driver says that it fell behind: more than 85 % of its CPU used, requests given out "
    "more than 20 ms late (99th percentile), or more than 2 % of them unsent",
    f"more than {MAX_ERROR_SHARE:.1%} of the requests fail",
    f"less than {MIN_RATE_SHARE:.0%} of the rate asked for is achieved",
    f"the hypervisor takes more than {MAX_STEAL_SHARE:.0%} of the CPU",
    f"a CPU limit holds the service back for more than {MAX_THROTTLED_SHARE:.0%} of the time",
    f"a thread of the service waits for a CPU in more than {MAX_CPU_WAIT_SHARE:.0%} of the time, "
    f"or for memory or a disk in more than {MAX_STALL_SHARE:.0%} (pressure stall information)",
    f"fewer than {MIN_WHOLE_SHARE:.0%} of the quadruples are whole (a window of less than 45 % "
    "of its length makes its quadruple a broken one; of a trial that arms share, windows count)",
)  # as the report states them


def least(experiment: Experiment) -> float:
    """Seconds that a window must have lasted: nearly half of what it was to.

    A window that a slow switch delayed lasts half by design, and clocks are read a little late.
    """
    return 0.45 * (experiment.window_seconds - experiment.guard_seconds)


def judge_of(experiment: Experiment, record: TrialRecord, windows: Sequence[WindowRow]) -> Judged:
    """Apply every rule to a trial of this experiment, by its arm's method."""
    method, seconds = experiment.arm(record.trial.arm).method, experiment.seconds_of(record.trial)
    saturated, quadruples = record.trial.kind == "saturated", experiment.quadruples_in(seconds)
    groups = saturation.quadruples(experiment) if saturated else quadruples
    if method == FACTORIAL:
        cycles = saturation.cycles(experiment) if saturated else design.cycles(experiment, seconds)
        groups = cycles * design.cycle(len(design.factors(experiment)))
    shortest = saturation.least(experiment) if saturated else least(experiment)
    return judge(record, windows, groups, shortest, method)


def judge(
    record: TrialRecord,
    windows: Sequence[WindowRow],
    quadruples: int,
    least_seconds: float = 0.0,
    method: Method = "switch",
) -> Judged:
    """Apply every rule to a trial; `quadruples` is how many its switched part was to have.

    Windows shorter than `least_seconds` do not count. A trial of method block is one pair, of one
    that factorial arms share the windows are counted, not quadruples. In a saturated trial threads
    wait for a CPU by design, and whose limit was met is no rule (`capacity`): one that
    could not fill the service has no windows.
    """
    if record.status != "ok":
        return Judged(record, ())
    values = {value.metric: value.value for value in record.values if not value.labels}
    if record.trial.kind == "saturated":
        values.pop("cpu_pressure_share", None)
    errors = _errors_told(record, values)
    others = [text for rule in RULES if (text := rule(values))]
    passing = bool(others)
    if record.trial.kind == "switched":
        others += [text for rule in SWITCHED_RULES if (text := rule(values))]
        if saturated := record.extra.get("saturated"):
            text = str(saturated).rstrip(".")
            others.append(f"{text[:1].upper()}{text[1:]}.")
            passing |= failures.WAITING not in text  # else the driver fell behind by itself
    if record.trial.kind != "metered" and UNFILLED not in record.extra:
        lost = _lost(windows, quadruples, least_seconds, method)
        others, passing = others + lost, passing or bool(lost)
    only_errors = bool(errors) and not others
    return Judged(record, (*errors, *others), only_errors, passing)


def _errors_told(record: TrialRecord, values: Mapping[str, float]) -> list[str]:
    """That too many requests failed, and how; nothing if they did not."""
    if not (text := _errors(values)):
        return []
    if not (kinds := record.extra.get("failures")):
        return [text]
    first = record.extra.get("first_failed")
    where = f", first {first}" if first else ""
    return [text, f"How they failed: {failures.told(kinds)}{where}."]


def _lost(
    windows: Sequence[WindowRow], quadruples: int, least_seconds: float, method: Method
) -> list[str]:
    if method == FACTORIAL:
        whole = factorial.whole(windows, ("cpu.workload",), least_seconds)
        if whole >= MIN_WHOLE_SHARE * quadruples:
            return []
        return [f"{whole} of {quadruples} windows are whole (limit {MIN_WHOLE_SHARE:.0%})."]
    whole = len(pairs.pairs(windows, method, ("cpu.workload",), (), least_seconds).on)
    if method == "block":
        return [] if whole else ["One of its parts is missing or was not driven."]
    if whole >= MIN_WHOLE_SHARE * quadruples:
        return []
    return [f"{whole} of {quadruples} quadruples are whole (limit {MIN_WHOLE_SHARE:.0%})."]
