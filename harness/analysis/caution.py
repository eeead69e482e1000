"""What a reader must know before believing a run's figures; `summary` calls it."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from harness.analysis import compare, posts, sight
from harness.analysis.compare import Estimate
from harness.analysis.cpu import BlockRow
from harness.analysis.latency_rows import Route
from harness.analysis.validity import Judged
from harness.model import BASELINE, Comparison, Method
from harness.plan.experiment import Experiment, plan
from harness.results.about import About, SkippedArm
from harness.wire import failures

UNLIKELY = 0.01  # blocks that differ more than this probability allows are told of
NAMED = 4  # trials that a sentence names
_NUMBER = re.compile(r"\d+( \d+)*")
# earlier versions kept with the run why a trial was not measured, also after it had been repaired
_OF_A_TRIAL = re.compile(r"\d{3,}-\S+-(switched|metered|saturated)(-again\d+)?: ")


def warnings(
    about: About,
    experiment: Experiment,
    trials: Sequence[Judged],
    rows: Sequence[Comparison],
    blocks: Sequence[BlockRow],
    routes: Sequence[Route] = (),
) -> Iterator[str]:
    """Sentences, the gravest first."""
    yield from skipped(about, rows)
    yield from _unmeasured(about, trials, rows)
    yield from _broken(about, experiment, trials)
    yield from _given_up(about, experiment, trials)
    yield from (text for text in about.warnings if not _OF_A_TRIAL.match(text))
    if not about.complete:
        how = f"The run did not end. {about.stopped_by}".rstrip()
        if about.ended and not about.stopped_by:
            how = "Not all that was due was measured."
        yield f"{how} The figures rest on the {len(trials)} trials that were finished."
    yield from spoiled(trials)
    yield from _in_part(trials)
    yield from sight.unseen(rows)
    yield from sight.untold(trials)
    yield from posts.sentences(trials)
    yield from _repeats(about)
    yield from _nulls(experiment, rows)
    yield from _slow(experiment, routes)
    yield from _disagreeing(blocks)
    yield from _uneven(experiment, trials)
    yield from _cold(about)
    yield from _refused(about)
    yield from _failed(trials)
    yield from sight.beside(trials)
    yield from _of_trials(trials)


def _of_trials(trials: Sequence[Judged]) -> Iterator[str]:
    """What single trials warned of: the same of several once, also if only its numbers differ."""
    found: dict[str, dict[str, list[str]]] = {}
    for judged in trials:
        name = judged.record.trial.name
        for text in dict.fromkeys(judged.record.extra.get("warnings", ())):
            alike = found.setdefault(_NUMBER.sub("0", text.replace(name, "")), {})
            alike.setdefault(text, []).append(name)
    for texts in found.values():
        text, *others = sorted(texts, key=_numbers, reverse=True)  # the largest are the gravest
        names = list(dict.fromkeys(itertools.chain(texts[text], *texts.values())))
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"{names[0]}{more}: {text}" + (f" {len(others)} more of the kind." if others else "")


def _numbers(text: str) -> list[int]:
    return [int(each) for each in re.findall(r"\d+", text)]


def skipped(about: About, rows: Sequence[Comparison]) -> Iterator[str]:
    """Why arms of which nothing was measured were skipped, once each."""
    for each in _skipped(about, rows):
        yield f"Arm {each.get('arm')} was skipped: {each.get('reason', 'no reason was given')}"


def _skipped(about: About, rows: Sequence[Comparison]) -> list[SkippedArm]:
    measured = {row.arm for row in rows}
    return [each for each in about.skipped_arms if each.get("arm") not in measured]


def _unmeasured(
    about: About, trials: Sequence[Judged], rows: Sequence[Comparison]
) -> Iterator[str]:
    """Why trials failed or were skipped. One that was set aside and measured again did not.

    What is said of a whole arm is not said again of each of its trials.
    """
    said = {each.get("reason") for each in _skipped(about, rows)}
    for judged in trials:
        record = judged.record
        if record.reason and not (record.status == "skipped" and record.reason in said):
            yield f"{record.trial.name}: {record.reason}"


def _broken(about: About, experiment: Experiment, trials: Sequence[Judged]) -> Iterator[str]:
    """Blocks that an error ended, unless the rest of them was measured since."""
    there = {judged.record.trial.index for judged in trials}
    for each in about.broken_blocks:
        block = each["workload"], each["block"]
        if {t.index for t in plan(experiment) if (t.workload, t.block) == block} - there:
            yield f"{block[0]}, block {block[1] + 1} ended early: {each['reason']}"


def _given_up(about: About, experiment: Experiment, trials: Sequence[Judged]) -> Iterator[str]:
    """What was not gone on with, unless it was measured since."""
    there = {judged.record.trial.index for judged in trials}
    left = [trial for trial in plan(experiment) if trial.index not in there]
    for each in about.given_up:
        if any(t.workload == each["workload"] and each["arm"] in ("", t.arm) for t in left):
            yield each["reason"]


def spoiled(trials: Sequence[Judged]) -> Iterator[str]:
    """How many trials broke a rule, and what was not measured again for that."""
    used = {judged.record.trial.index for judged in trials if judged.usable or judged.blamed}
    partly = list(_partly(trials))
    invalid = [judged for judged in trials if judged.status == "invalid" and judged not in partly]
    if not invalid:
        return
    lost = [j.record.trial for j in invalid if j.record.trial.index not in used]
    names = dict.fromkeys(f"{t.workload}, {t.arm}, block {t.block + 1} ({t.kind})" for t in lost)
    text = (
        f"{len(invalid)} of {len(trials)} trials broke a rule and are not used, the first because: "
        f"{invalid[0].violations[0]}"
    )
    more = f"; {len(names) - NAMED} more" if len(names) > NAMED else ""
    missing = f"Not measured for that: {'; '.join(list(names)[:NAMED])}{more}."
    yield f"{text} {missing if names else 'Each was measured again.'}"


def _partly(trials: Sequence[Judged]) -> Iterator[Judged]:
    """Shared trials of which only the windows without a collector to blame are used."""
    whole = {judged.record.trial.index for judged in trials if judged.usable}
    return (each for each in trials if each.blamed and each.record.trial.index not in whole)


def _in_part(trials: Sequence[Judged]) -> Iterator[str]:
    """Which collectors requests failed with, and what of their trial the others rest on."""
    for judged in _partly(trials):
        names = " and ".join(judged.blamed)
        yield (
            f"{judged.record.trial.name}: {' '.join(judged.blamed.values())} The other collectors "
            f"are told from the windows without {names}, in which their states are balanced as "
            f"before, so that this puts no bias on them; nothing of {names} is, nor what only its "
            "steady part tells, in which all are on."
        )


def _repeats(about: About) -> Iterator[str]:
    """Of a service that was found running: what a block is, and what intervals do not hold."""
    own = about.own_workload or {}
    if own.get("running"):
        yield (
            f"{own['name']} {own['description']}, and was not started anew: each block is a repeat "
            "on the same processes. The intervals hold for these; how much a cost differs from one "
            "start of the service to the next is not in them."
        )


def _nulls(experiment: Experiment, rows: Sequence[Comparison]) -> Iterator[str]:
    empty = {arm.name for arm in experiment.arms if not arm.collectors}
    for row in rows:
        if row.arm in empty and row.metric == "workload_cpu_us" and row.low * row.high > 0:
            named = "" if row.arm == BASELINE else f", {row.arm}"
            yield (
                f"{row.workload}{named}: with nothing installed the difference is not zero "
                f"({_us(row.estimate)} µs [{_us(row.low)}, {_us(row.high)}]): "
                "effects of that size or smaller are not to be believed."
            )


def _slow(experiment: Experiment, routes: Sequence[Route]) -> Iterator[str]:
    """Routes for which windows are short: their tail is not told, or much of it crosses an end."""
    window_us = 1e6 * experiment.window_seconds
    for route in routes:
        method = experiment.arm(route.arm).method
        if route.arm != _shown(experiment, method) or method == "block":
            continue
        hidden = [name.replace("_", ".") for name in route.too_long if name != "p99_9"]
        if not hidden and not route.p90_us > window_us / 4:
            continue
        name = f", {route.suffix.strip('[]')}" if route.suffix else ""
        lost = f"{', '.join(hidden)} of their latency cannot be told, and " if hidden else ""
        yield (
            f"{route.workload}{name}: requests take {_ms(route.p90_us)} (p90) and "
            f"{_ms(route.p99_us)} (p99), which is long beside windows of {_ms(window_us)}: {lost}"
            "what a collector does at their end may fall into another window. Longer windows "
            "(window_seconds) show it."
        )


def _shown(experiment: Experiment, method: Method) -> str:
    """One arm of a method stands for all of it, one without collectors if there is one."""
    arms = sorted(experiment.arms, key=lambda arm: bool(arm.collectors))
    return next(arm.name for arm in arms if arm.method == method)


def _ms(us: float) -> str:
    return f"{us / 1e3:.2g} ms" if us < 1e4 else f"{us / 1e3:.0f} ms"


def _us(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def _disagreeing(blocks: Sequence[BlockRow]) -> Iterator[str]:
    for workload, arm in sorted({(b.workload, b.arm) for b in blocks}):
        mine = [b for b in blocks if (b.workload, b.arm) == (workload, arm)]
        estimates = [Estimate.of(block) for block in mine]
        if compare.disagreement(estimates) < UNLIKELY:
            each = ", ".join(_us(b.estimate) for b in mine)
            yield (
                f"{workload}, {arm}: the blocks disagree beyond their own intervals ({each} µs). "
                "The interval shown is widened by what this service's arms of as many collectors "
                "show of that together; "
                f"{len(mine)} blocks tell little of how much processes differ."
            )


def _uneven(experiment: Experiment, trials: Sequence[Judged]) -> Iterator[str]:
    """Roles and orders change with each block: a surplus of one does not cancel."""
    stays = {
        "twin": "what sets an older process apart from a fresh one",
        "block": "the machine's drift over a trial",
    }
    for workload, arm in itertools.product(experiment.workloads, experiment.arms):
        used = {
            judged.record.trial.block
            for judged in trials
            if judged.usable and judged.record.trial.kind == "switched"
            and (judged.record.trial.workload, judged.record.trial.arm) == (workload, arm.name)
        }  # fmt: skip
        surplus = abs(sum(-1 if block % 2 else 1 for block in used))
        if surplus and arm.method in stays:
            yield (
                f"{workload}, {arm.name}: of {len(used)} blocks {surplus} more had one order than "
                f"the other: {surplus}/{len(used)} of {stays[arm.method]} is in the estimate."
            )


def _cold(about: About) -> Iterator[str]:
    for each in about.warmups:
        if not each.get("steady", True):
            whose = f"the twin of arm {each['arm']!r}: its" if "arm" in each else "its"
            yield (
                f"{each.get('workload')}, block {int(each.get('block', 0)) + 1}: {whose} CPU per "
                f"request had not become steady after {each.get('seconds', 0):.0f} s of warm-up."
            )


def _refused(about: About) -> Iterator[str]:
    """What a service did not answer well while its capacity was looked for."""
    for workload, known in about.calibration.items():
        if kinds := known.get("failures"):
            yield (
                f"{workload}: pressed with all connections it answered {known['capacity']:,.0f} "
                f"requests a second well and {known['refused']:,.0f} a second not "
                f"({failures.told(kinds)}). Its capacity, of which the load is a share, is what "
                "it answered well."
            )


def _failed(trials: Sequence[Judged]) -> Iterator[str]:
    """Failures too few to spoil a trial: their requests are in the figures."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for judged in trials:
        if judged.usable:
            kinds[judged.record.trial.workload].update(judged.record.extra.get("failures", {}))
    for workload, found in kinds.items():
        if found:
            yield (
                f"{workload}: {found.total():,} of the requests in trials that are used failed: "
                f"{failures.told(found)}."
            )
