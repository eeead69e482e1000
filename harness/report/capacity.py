"""The sentences about a ramp: what is held, what ends it, what it costs; for `ramp`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis import costs as bills
from harness.analysis import ramp as analysis
from harness.analysis.costs import Cost
from harness.analysis.ramp import ONCE, Capacity, Reason, Step
from harness.report import wording

EQUAL = 0.9  # of the most CPU that one uses, from which another is named beside it
NOUNS = {"spans": "spans", "points": "metric points", "logs": "log lines"}
NAMES = {
    "otelcol": "the Collector", "generator": "the generator", "harness": "the ramp itself",
    "host": "the whole machine", bills.NOBODY: "others",
}  # fmt: skip


def spoken(name: str, titles: Mapping[str, str]) -> str:
    """A component, or who else uses CPU, in a sentence; `titles` are of the step or ramp."""
    return NAMES.get(name) or titles.get(name) or name.capitalize()


def verdict(each: str, held: Capacity, costs: Sequence[Cost], cpus: int) -> str:
    """What a platform engineer wants to know, in a few sentences."""
    known = held.bad or held.good
    titles = known.titles if known else {}
    parts = [_held(each, held, cpus), _ends(held, cpus), _others(held, cpus)]
    parts.append(_costs(each, costs, titles))
    return " ".join(part for part in parts if part)


def _held(each: str, held: Capacity, cpus: int) -> str:
    noun = NOUNS[each]
    if held.good is None:
        least = f"{held.bad.rate:,.0f} {noun}/s" if held.bad else f"any {noun}"
        return f"On {cpus} CPUs this stack does not hold {least}: {_why(held)}."
    takes = f"{held.good.arrived:,.0f} {noun}/s"
    if held.bad is None:
        return f"On {cpus} CPUs this stack takes at least {takes}: no higher rate was tried."
    most = f"{held.bad.rate:,.0f}"
    if held.at_least:
        most = f"at least {takes}; {most} were not held here"
    else:
        most = f"{takes}, and not {most}"
    return f"On {cpus} CPUs this stack takes {most}: {_why(held)}."


def _why(held: Capacity) -> str:
    assert held.bad is not None
    return ", ".join(reason(held.bad, each) for each in held.reasons)


def reason(step: Step, why: Reason) -> str:
    """Why a step was not held, with its figure."""
    sent, name = step.sent, spoken(step.keeper, step.titles)
    if why == "discarded":
        found = analysis.discarded(step)
        shown = ", ".join(key for key, value in found.items() if value > 0)
        return f"{name} turned {sum(found.values()):,.0f} away ({shown})"
    if why == "lag":
        after = f"only after {step.lag:.1f} s" if math.isfinite(step.lag) else "not at all"
        return f"what was sent could be queried {after}"
    refused = max(sent.get("refused", 0) + sent.get("rejected", 0), step.counts.get("refused", 0))
    unknown = sent.get("failed", 0) + step.counts.get("unmarked", 0)
    dropped = step.counts.get("failed", 0) + step.counts.get("unqueued", 0)
    return {
        "refused": f"the Collector refused {refused:,.0f}",
        "unanswered": f"{unknown:,.0f} got no answer",
        "dropped": f"the Collector dropped {dropped:,.0f}",
        "queue": f"{step.queue[-1] if step.queue else 0:,.0f} waited in the Collector, "
        "and ever more",
        "stuck": "what was sent was not through after two minutes",
        "held": "the Collector answered too slowly for this rate",
        "generator": "the generator could not keep this rate",
    }[why]


def _ends(held: Capacity, cpus: int) -> str:
    if held.bad is None:
        return ""
    name = _capital(spoken(held.limit, held.bad.titles))
    if held.limit == "generator":
        used = held.bad.cpu.get("generator", 0.0)
        return f"The generator ended the ramp, not the stack: it used {used:.2f} of {cpus} CPUs."
    if "discarded" in held.reasons:
        return f"{name} ends it, by limits that are set in its configuration."
    idle = f"{100 * held.bad.idle:.0f} % of the CPUs' time idle"
    if held.full:
        return _busy(held.bad, cpus, idle)
    used = held.bad.cpu.get(held.limit, 0.0)
    return (
        f"{name} is what ends it, with {idle}: the machine has CPU left, and it uses {used:.2f} "
        f"of {cpus}."
    )


def _others(held: Capacity, cpus: int) -> str:
    if held.bad is None or not analysis.shared(held.bad):
        return ""
    others, steal = max(0.0, analysis.nobody(held.bad)), 100 * held.bad.steal
    return (
        f"The machine was shared: others used {others:.1f} of {cpus} CPUs then, and a hypervisor "
        f"took {steal:.0f} % of their time; alone, the stack may take more."
    )


def _busy(bad: Step, cpus: int, idle: str) -> str:
    """Who uses most of busy CPUs; who uses about as much is named, too."""
    used = {name: cpu for name, cpu in bad.cpu.items() if name not in analysis.OURS}
    most = sorted(
        (n for n in used if used[n] >= EQUAL * max(used.values())), key=lambda n: -used[n]
    )
    names = _capital(" and ".join(spoken(name, bad.titles) for name in most))
    shares = " and ".join(f"{used[name]:.2f}" for name in most)
    verb = "is" if len(most) == 1 else "are"
    it = "it uses most of them" if len(most) == 1 else "they use most of them"
    own = bad.cpu.get("generator", 0.0)
    return (
        f"{names} {verb} what ends it: the CPUs are busy ({idle}), and of the stack {it}, {shares} "
        f"of {cpus}; the generator beside it uses {own:.2f}."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _costs(each: str, costs: Sequence[Cost], titles: Mapping[str, str]) -> str:
    shown = [c for c in costs if c.component not in (*analysis.OURS, bills.NOBODY) and c.low > 0]
    if not shown:
        return ""
    parts = [f"{seconds(c.seconds)} in {spoken(c.component, titles)}" for c in shown]
    return f"Each 1,000 {NOUNS[each]} cost CPU seconds: {', '.join(parts)}."


def line(step: Step, reasons: Sequence[Reason]) -> str:
    """A step for the terminal."""
    lag = f"{step.lag:.1f} s" if math.isfinite(step.lag) else "not found"
    what = f"{step.signal}: {step.rate:,.0f}/s" if step.rate else f"{step.signal}: nothing sent"
    text = f"{what}, lag {lag}, CPU idle {100 * step.idle:.0f} %"
    why = "; ".join(reason(step, each) for each in reasons)
    return f"{text}: {why}" if why else f"{text}: held" if step.rate else text


def accounted(each: str, account: Mapping[str, Any]) -> str:
    """Whether anything that was acknowledged is missing, as far as it can be told."""
    wanted, found, unit = account["accepted"], account["found"], account["unit"]
    backend = account.get("keeper") or ONCE[each].capitalize()
    unknown = account.get("unknown", 0)
    if found is None:
        return f"{each}: {backend} did not answer how many {unit} it has."
    verb = "received" if "whole" in account else "has"
    parts = [
        f"{each}: of {wanted:,.0f} {unit} that were acknowledged {backend} {verb} {found:,.0f}"
    ]
    torn = account.get("traces", 0) - account.get("whole", 0)
    if "whole" in account:
        parts.append(f"of {account['traces']} traces looked up {account['whole']} are whole")
    if wanted > found or torn:
        parts.append("some are missing")
    elif unknown or found > wanted:
        parts.append(
            f"{max(unknown, found - wanted):,.0f} came twice or were not acknowledged, so that "
            "a loss cannot be excluded"
        )
    else:
        parts.append("nothing is missing")
    return "; ".join(parts) + "."


def seconds(value: float) -> str:
    """CPU seconds to a tenth of a millisecond."""
    return wording.number(value, 4)
