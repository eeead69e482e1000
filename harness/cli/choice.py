"""The experiment that the options of `harness evaluate` ask for, and its plan in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from harness.analysis import hour, ranks
from harness.collectors import subject
from harness.controller import telemetry
from harness.errors import InputError
from harness.model import BASELINE, FACTORIAL, Arm, StackKind, Trial
from harness.plan import allotment, design, experiment, methods, parts
from harness.plan.experiment import Experiment
from harness.plan.url import hidden
from harness.plan.workloads import OWN, Workload
from harness.results import certificates
from harness.wire import placement

OLD = "old"  # the arm that the others are compared against
_NOTED = ("window_seconds", "guard_seconds", "entry_ns", "workload", "made", hour.KEY)
"""Of the certificate."""
GUARD_SECONDS = float(Experiment.guard_seconds)  # at least: the certificate's service was quick


def certified(reports: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the certificate of a machine of these facts tells an evaluation; empty without one.

    Its guard is what the requests of its workload need. Those of others are seldom shorter.
    """
    found = certificates.load(reports, facts) or {}
    noted = {key: found[key] for key in _NOTED if found.get(key) is not None}
    if "guard_seconds" in noted:
        noted["guard_seconds"] = max(noted["guard_seconds"], GUARD_SECONDS)
    return noted


def repeatable(arguments: Sequence[str]) -> list[str]:
    """A command without the name of its run, which can be used only once, and without a login."""
    kept = ["harness"]
    for previous, word in zip(["", *arguments], arguments, strict=False):
        if "--run" in (previous, word) or word.startswith("--run="):
            continue
        option = "--url=" if word.startswith("--url=") else ""
        is_url = option or previous == "--url"
        kept.append(option + hidden(word.removeprefix(option)) if is_url else word)
    return kept


def chosen(
    name: str,
    *,
    own: Workload | None = None,
    arms: Sequence[str] = (),
    workloads: Sequence[str] = (),
    minutes: float | None = None,
    stack: str | None = None,
    service_cpus: int | None = None,
    load_workers: int | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Experiment:
    """The experiment of this file or name, with what the other options replace in it.

    `defaults` stand for the file's window_seconds and guard_seconds where it has none.
    """
    lengths = ("window_seconds", "guard_seconds")
    e = experiment.load(
        Path(name), {key: value for key, value in (defaults or {}).items() if key in lengths}
    )
    if own is not None and workloads:
        raise InputError(
            "--workload and --command name different services.", next_step="Give one of them."
        )
    if own is not None:
        loads = {own.name: e.loads[OWN]} if OWN in e.loads else {}
        e = replace(allotment.of(e, 1), name=own.name, workloads=(own.name,), loads=loads)
    if workloads:
        loads = {each: load for each, load in e.loads.items() if each in workloads}
        named = tuple(dict.fromkeys(workloads))
        e = replace(allotment.of(e, len(named)), workloads=named, loads=loads)
    if stack is not None:
        # which the experiment checks; the full one tells what each arm costs it, and is asked for
        # longer than windows last
        e = allotment.without(methods.apart(e)) if stack == "full" else e
        e = replace(e, stack=cast(StackKind, stack))
    if arms:
        given = parse_arms(arms, e.stack)
        shares = any(arm.method == FACTORIAL for arm in given)
        by_block = any(arm.method == "block" for arm in given)
        if by_block:
            # a pilot would tell nothing of them, and fewer trials have no interval
            e = replace(allotment.without(e), blocks=max(e.blocks, ranks.LEAST))
        # a trial by block keeps its time: it is of five parts, with coming and going between them
        e = replace(e if shares or by_block else methods.apart(e), arms=given)
    if minutes is not None:
        e = replace(e, budget_seconds=60 * minutes)
    if service_cpus is not None:
        e = replace(e, service_cpus=service_cpus)
    if load_workers is not None:
        e = replace(e, load_workers=load_workers)
    return e


def parse_arms(given: Sequence[str], stack: StackKind = "sink") -> tuple[Arm, ...]:
    """The arms of `NAME=SPEC+SPEC` words, after the baseline; InputError if one is unusable.

    Collectors without options name their arm themselves.

    An arm `old` is none of its own: every other one is compared against its collectors, so that
    both are interleaved window by window.
    """
    found = {}
    for word in given:
        name, equals, text = word.partition("=")
        if word and (not equals or ":" in name):  # that = is of a collector's option
            name, text = _arm_name(word), word
        specs = tuple(spec.strip() for spec in text.split("+"))
        if not name or not all(specs):
            raise InputError(
                f"The arm {word!r} cannot be read.",
                next_step="Write COLLECTOR, NAME=COLLECTOR, or NAME=COLLECTOR+COLLECTOR.",
            )
        if name in found or name == BASELINE:
            taken = "is always there" if name == BASELINE else "is given twice"
            raise InputError(f"The arm {name!r} {taken}.", next_step="Choose another name.")
        found[name] = specs
    old = found.pop(OLD, ())
    if not found:
        raise InputError(
            "The arm 'old' has nothing to be compared with.",
            next_step="Give the other version too: --arm new=COLLECTOR.",
        )
    arms = [Arm(BASELINE), *(Arm(name, specs, old) for name, specs in found.items())]
    return tuple(methods.chosen(arms, stack=stack))


def _arm_name(word: str) -> str:
    """What an arm is called that names only its collectors; of a file that is its own name."""
    return "-".join(_spec_name(*spec.strip().partition(":")) for spec in word.split("+"))


def _spec_name(collector: str, _: str, options: str) -> str:
    """`http-sample-0-5`: of its options what a name may have."""
    told = re.sub(r"[^a-z0-9_]+", "-", options.lower()).strip("-")
    return "-".join(filter(None, (Path(collector).stem, told)))


def plan(
    e: Experiment,
    described: Mapping[str, Any] | None = None,
    skipped: Mapping[str, str] | None = None,
    load: str = "",
    due: Sequence[Trial] | None = None,
    seen: Iterable[str] = (),
) -> Iterator[str]:
    """What would be done, a line each; `described` is what the node says of itself, if asked.

    `skipped` are the arms that cannot run there, and why; None if that was not looked at. `load`
    says where that comes from, if not from beside the service. `due` is what is left of a run that
    goes on, `seen` are sentences on what would be seen.
    """
    trials = experiment.plan(e)
    yield (
        f"Experiment {e.name}: {_count(len(e.workloads), 'workload')}, "
        f"{_count(len(e.arms), 'arm')}, {_blocks(e)}, "
        f"{_count(len(trials), 'trial')}{' of the pilot' if e.awaits_pilot else ''}, "
        f"seed {e.seed}; about {lasts(e.expected_seconds())}"
        f"{'' if due is None else ' as a whole'}. "
        "Nothing has been started."
    )
    if due is not None:
        yield f"  {len(due) or 'none'} of them {'is' if len(due) < 2 else 'are'} left to measure"
    for arm in e.arms:
        yield f"  arm {arm.name}: {_describe(arm, e.settle_seconds)}"
    for name in e.workloads:
        by = f", made by {e.load_workers} processes" if e.load_workers > 1 else ""
        yield f"  load of {name}: {e.load(name).arrivals} arrivals{by}"
    if e.has_shared:
        yield f"  {_shared(e)}"
    window, guard = 1000 * e.window_seconds, 1000 * e.guard_seconds
    yield f"  windows of {window:g} ms, of which the first {guard:g} ms are not metered"
    if described is None:
        yield "  the machine is asked what it is when it begins, not for a plan"
    else:
        here = 0 if load and e.load_workers > 1 else e.load_workers
        yield f"  {_placed(e, described, here)}"
        yield from _runnable(e, skipped)
    if load:
        yield (
            f"  the load comes {load}; its clock must be told from the service's to "
            f"{100 * e.guard_seconds:g} ms, or nothing is measured"
        )
    yield f"  {telemetry.plan(e, bool(described and described['stack_up']))}"
    yield from allotment.plan(e)
    if e.precision_percent is not None:
        yield (
            f"  a workload's blocks end after {e.min_blocks} or more once every arm's interval is "
            f"within ±{e.precision_percent:g} %"
        )
    if e.budget_seconds is not None:
        yield f"  no block begins after {e.budget_seconds / 60:.3g} minutes"
    for sentence in seen:
        yield f"  {sentence}"
    if e.replacements:
        yield f"  a trial that breaks a rule of validity is repeated, {e.replacements} at most"
    for trial in trials if due is None else due:
        arms = [arm.name for arm in e.arms_of(trial) if arm.collectors]
        none = bool(arms) and all(name in (skipped or {}) for name in arms)
        yield f"  {trial.name}{' (skipped)' if none else ''}"
    if e.awaits_pilot:
        yield "  and what the pilot gives"
    if due is not None and not due and not e.awaits_pilot:
        yield "Next: `harness report` shows what was found."
        return
    yield promise(e)
    yield "Next: the same command without --plan."


def _blocks(e: Experiment) -> str:
    """How many each workload has, as far as it is known."""
    each = sorted({e.blocks_of(workload) for workload in e.workloads})
    if e.awaits_pilot:
        return f"{each[0]} or more blocks"
    return _count(each[0], "block") if len(each) == 1 else f"{each[0]} to {each[-1]} blocks"


def _runnable(e: Experiment, skipped: Mapping[str, str] | None) -> Iterator[str]:
    """Which arms would be skipped, and why."""
    if skipped is None:
        yield "  whether the kernel has the collectors' hooks was not looked at: that takes root"
    elif not skipped and any(arm.collectors for arm in e.arms):
        yield "  the kernel has the hooks that the included collectors need: each was tried"
    for arm, reason in (skipped or {}).items():
        yield f"  arm {arm} would be skipped: {reason}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def offers() -> Iterator[str]:
    """What `harness evaluate` would do if it was told to, for who has named nothing yet."""
    yield "Nothing has been started: say what is to be measured."
    yield ""
    yield "Your own service, started for it or running already:"
    yield "  harness evaluate --command ./my-server --url http://127.0.0.1:8080/"
    yield "  harness evaluate --url http://127.0.0.1:8080/ --unit my-server"
    yield "Services that ship, with the included collectors:"
    for name in ("quick", "standard"):
        e = experiment.load(Path(name))
        collectors = len({c for arm in e.arms for c in arm.collectors})
        what = f"{', '.join(e.workloads)}; {_count(collectors, 'collector')}; "
        what += f"about {lasts(e.expected_seconds())}"
        yield f"  {f'harness evaluate {name}':<27} {what}"
    yield "  harness evaluate --workload go --quick       a first look in a minute"
    yield "Options say which collectors (--arm), and how long (--duration 3m)."
    yield "Next: one of these; with --plan it says what it would do, and starts nothing."


def promise(e: Experiment) -> str:
    """What there will be when, before the first trial of an evaluation."""
    plain = replace(allotment.without(e), budget_seconds=None)
    begin = replace(plain, workloads=e.workloads[:1], loads={}, blocks=1, min_blocks=1)
    first = begin.expected_seconds()
    whole, services = e.expected_seconds(), len(e.workloads)
    said = f"It takes about {lasts(whole)}: the first figures are there after about {lasts(first)}"
    if services > 1 and not e.pilot_blocks:  # with one they take turns
        said += f", a service is done every {lasts(whole / services)}"
    return f"{said}. Ctrl-C ends it with a report of what is known by then."


def lasts(seconds: float) -> str:
    """`3 minutes` or `45 seconds`, in the unit that a person would take."""
    return _count(round(seconds / 60), "minute") if seconds >= 90 else f"{seconds:.0f} seconds"


def _placed(e: Experiment, described: Mapping[str, Any], load_workers: int) -> str:
    """How many CPUs the service would have beside so many load workers, and who the others."""
    siblings = {int(cpu): threads for cpu, threads in described["siblings"].items()}
    return placement.plan(sorted(siblings), siblings, e.service_cpus, load_workers).why


def _shared(e: Experiment) -> str:
    """What the trial is that factorial arms share."""
    found = design.factors(e)
    arms = sum(arm.method == FACTORIAL for arm in e.arms)
    return (
        f"the {arms} factorial arms share one trial a block, of {_count(design.cycles(e), 'cycle')}"
        f" of {design.cycle(len(found))} windows: in each window each of the "
        f"{_count(len(found) - 1, 'collector')} is on or off by a pattern of its own"
    )


def _describe(arm: Arm, settle: float) -> str:
    if not arm.collectors and arm.method == FACTORIAL:
        return "a pattern of on and off that switches nothing (A/A), method factorial"
    if not arm.collectors:
        return f"nothing is installed (A/A), method {arm.method}"
    against = f" against {' + '.join(arm.against)}" if arm.against else ""
    of_host = [told for spec in arm.collectors if (told := _of_host(spec))]
    whole = f"; {' and '.join(of_host)} traces the whole host" if of_host else ""
    turning = parts.turning_seconds(arm, settle)
    by_turns = f", by turns in {parts.PARTS} parts of a trial, {turning:.0f} s beside them"
    if parts.is_moved(arm):
        by_turns += (
            f": an allowance of {parts.MOVE_SECONDS:.0f} s each of the {parts.TIMES} times that "
            "its pod comes and goes"
        )
    how = f"method {arm.method}{by_turns if turning else ''}"
    return f"{' + '.join(arm.collectors)}{against}, {how}{whole}"


def _of_host(spec: str) -> str:
    """A collector that is entered by whoever runs on the host, with its hooks; empty of another."""
    found = subject.find(spec)
    if found is None or found.subject is None or found.subject.reach != "host":
        return ""
    return f"{spec} ({', '.join(found.hooks)})" if found.hooks else spec
