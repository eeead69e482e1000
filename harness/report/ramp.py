"""What a ramp found, as ramp.json, ramp.md and figures, and its sentences; `ramp` calls it."""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from harness.analysis import costs as bills
from harness.analysis import ramp as analysis
from harness.analysis.costs import Cost
from harness.analysis.ramp import BACKENDS, Capacity, Reason, Step
from harness.errors import StoreError
from harness.report import curve, wording

SCHEMA = 1
STEAL = 0.05  # share of stolen CPU time from which a step is remarked on
POINT_SECONDS = 10  # between two points of a series, where series are spoken of
NOUNS = {"spans": "spans", "points": "metric points", "logs": "log lines"}
NAMES = {
    "otelcol": "the Collector", "prometheus": "Prometheus", "tempo": "Tempo", "loki": "Loki",
    "grafana": "Grafana", "generator": "the generator", "harness": "the ramp itself",
    "host": "the whole machine", bills.NOBODY: "in nobody's cgroup",
}  # fmt: skip
_TEMPLATE = Path(__file__).with_name("ramp.md.j2")

Row = tuple[str, ...]


def write(folder: Path, about: Mapping[str, Any], steps: Sequence[Step]) -> dict[str, Any]:
    """Write all of it into the run's folder; what ramp.json says. StoreError where that fails."""
    found = document(about, steps)
    try:
        _whole(folder / "ramp.json", json.dumps(_finite(found), indent=1) + "\n")
        _whole(folder / "ramp.md", text(found))
        curve.write(folder, found)
    except OSError as error:
        raise StoreError(f"Cannot write into {folder}: {error.strerror}.") from error
    return found


def document(about: Mapping[str, Any], steps: Sequence[Step]) -> dict[str, Any]:
    """ramp.json as a dictionary; docs/ramp.md names its fields."""
    asked, cpus = about["asked"], about["facts"]["cpus_online"]
    signals = {}
    for each in dict.fromkeys(step.signal for step in steps):
        own = [step for step in steps if step.signal == each]
        limit = asked["limit_lag"]
        held, costs = analysis.capacity(own, limit), bills.costs(own, limit)
        signals[each] = {
            "verdict": verdict(each, held, costs, cpus),
            "capacity": _capacity(held),
            "costs": [asdict(cost) for cost in costs],
            "account": about.get("account", {}).get(each),
            "steps": [_step(step, limit) for step in own],
        }
    return {"schema": SCHEMA, **{k: v for k, v in about.items() if k not in ("schema", "account")},
            "cpus": cpus, "signals": signals}  # fmt: skip


def _capacity(held: Capacity) -> dict[str, Any]:
    return {
        "rate": held.good.rate if held.good else None,
        "accepted": held.good.accepted if held.good else None,
        "arrived": held.good.arrived if held.good else None,
        "above": held.bad.rate if held.bad else None,
        "at_least": held.at_least,
        "reasons": list(held.reasons),
        "limit": held.limit,
        "full": held.full,
    }


def _step(step: Step, limit: float) -> dict[str, Any]:
    return {
        **step.to_dict(),
        "lag": step.lag,
        "nobody": bills.nobody(step),
        "reasons": list(analysis.judge(step, limit)),
    }


def verdict(each: str, held: Capacity, costs: Sequence[Cost], cpus: int) -> str:
    """What a platform engineer wants to know, in a few sentences."""
    parts = [_held(each, held, cpus), _ends(each, held, cpus), _costs(each, costs)]
    return " ".join(part for part in parts if part)


def _held(each: str, held: Capacity, cpus: int) -> str:
    noun = NOUNS[each]
    if held.good is None:
        least = f"{held.bad.rate:,.0f} {noun}/s" if held.bad else f"any {noun}"
        return f"On {cpus} CPUs this stack does not hold {least}: {_why(held)}."
    takes = f"{held.good.arrived:,.0f} {noun}/s"
    if held.bad is None:
        return f"On {cpus} CPUs this stack takes at least {takes}: no higher rate was tried."
    some = "at least " if held.at_least else ""
    most = f"and not {held.bad.rate:,.0f}: {_why(held)}"
    return f"On {cpus} CPUs this stack takes {some}{takes}, {most}."


def _why(held: Capacity) -> str:
    assert held.bad is not None
    return ", ".join(reason(held.bad, each) for each in held.reasons)


def reason(step: Step, why: Reason) -> str:
    """Why a step was not held, with its figure."""
    sent, name = step.sent, NAMES[BACKENDS[step.signal]]
    if why == "discarded":
        found = analysis.discarded(step)
        shown = ", ".join(key for key, value in found.items() if value > 0)
        return f"{name} turned {sum(found.values()):,.0f} away ({shown})"
    if why == "lag":
        after = f"only after {step.lag:.1f} s" if math.isfinite(step.lag) else "not at all"
        return f"what was sent could be queried {after}"
    refused = max(sent.get("refused", 0) + sent.get("rejected", 0), step.counts.get("refused", 0))
    dropped = step.counts.get("failed", 0) + step.counts.get("unqueued", 0)
    return {
        "refused": f"the Collector refused {refused:,.0f}",
        "unanswered": f"{sent.get('failed', 0):,.0f} got no answer",
        "dropped": f"the Collector dropped {dropped:,.0f}",
        "queue": f"{step.queue[-1] if step.queue else 0:,.0f} waited in the Collector, "
        "and ever more",
        "held": "the Collector answered too slowly for this rate",
        "generator": "the generator could not keep this rate",
    }[why]


def _ends(each: str, held: Capacity, cpus: int) -> str:
    if held.bad is None:
        return ""
    name, used = NAMES.get(held.limit, held.limit), held.bad.cpu.get(held.limit, 0.0)
    name = name[0].upper() + name[1:]
    if held.at_least:
        return "It was the generator that ended the ramp, not the stack."
    if "discarded" in held.reasons:
        return f"{name} ends it, by limits that are set in its configuration."
    idle = f"{100 * held.bad.idle:.0f} % of the CPUs' time idle"
    if held.full:
        own = held.bad.cpu.get("generator", 0.0)
        return (
            f"{name} is what ends it: the CPUs are busy ({idle}), and it takes most of them, "
            f"{used:.2f} of {cpus}; the generator, which runs beside it, takes {own:.2f}."
        )
    return (
        f"{name} is what ends it, with {idle}: the machine has CPU left, and it uses {used:.2f} "
        f"of {cpus}."
    )


def _costs(each: str, costs: Sequence[Cost]) -> str:
    shown = [c for c in costs if c.component not in (*analysis.OURS, bills.NOBODY) and c.low > 0]
    if not shown:
        return ""
    parts = [f"{_seconds(c.seconds)} in {NAMES.get(c.component, c.component)}" for c in shown]
    return f"Each 1,000 {NOUNS[each]} cost CPU seconds: {', '.join(parts)}."


def line(step: Step, reasons: Sequence[Reason]) -> str:
    """A step for the terminal."""
    lag = f"{step.lag:.1f} s" if math.isfinite(step.lag) else "not found"
    what = f"{step.signal}: {step.rate:,.0f}/s" if step.rate else f"{step.signal}: nothing sent"
    text = f"{what}, lag {lag}, CPU idle {100 * step.idle:.0f} %"
    why = "; ".join(reason(step, each) for each in reasons)
    return f"{text}: {why}" if why else f"{text}: held" if step.rate else text


def accounted(each: str, account: Mapping[str, Any]) -> str:
    """Whether anything that was accepted is missing, as a sentence."""
    wanted, found, unit = account["accepted"], account["found"], account["unit"]
    backend = NAMES[BACKENDS[each]]
    if found is None:
        return f"{each}: {backend} did not answer how many {unit} it has."
    missing = wanted - found
    text = f"{each}: of {wanted:,.0f} {unit} that were acknowledged {backend} has {found:,.0f}"
    if "whole" in account:
        text += f"; of {account['traces']} traces looked up {account['whole']} are whole"
    unknown = account.get("unknown", 0)
    extra = f", and {unknown:,} records got no answer" if unknown else ""
    return f"{text}: {'nothing is' if missing <= 0 else f'{missing:,.0f} are'} missing{extra}."


def text(found: Mapping[str, Any]) -> str:
    """ramp.md."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.globals["table"] = _table
    facts, asked = found["facts"], found["asked"]
    signals = found["signals"]
    return environment.from_string(_TEMPLATE.read_text()).render(
        r=found,
        machine=", ".join(str(facts[k]) for k in ("cpu_model", "distribution", "virtualisation")),
        command=shlex.join(asked["command"]),
        nouns=NOUNS,
        bill=list(_bill(signals)),
        steps={each: list(_steps(own["steps"])) for each, own in signals.items()},
        accounts=[accounted(k, own["account"]) for k, own in signals.items() if own["account"]],
        memory=list(_memory(signals)),
        series=_series(signals),
        stolen=[f"{k} at {step['rate']:,.0f}/s ({100 * step['steal']:.0f} %)"
                for k, own in signals.items() for step in own["steps"] if step["steal"] > STEAL],
    )  # fmt: skip


def _bill(signals: Mapping[str, Any]) -> Iterator[Row]:
    for each, own in signals.items():
        for cost in own["costs"]:
            known = math.isfinite(cost["low"])
            interval = f"[{_seconds(cost['low'])}, {_seconds(cost['high'])}]" if known else "?"
            name = NAMES.get(cost["component"], cost["component"])
            yield (
                NOUNS[each], name, _seconds(cost["seconds"]), interval, _seconds(cost["idle"]),
                f"{cost['residual']:.1f} %", str(cost["steps"]),
            )  # fmt: skip


def _steps(steps: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    for step in steps:
        lag = step["lag"]
        yield (
            f"{step['rate']:,.0f}", f"{step['accepted']:,.0f}", f"{step['arrived']:,.0f}",
            f"{lag:.1f}" if lag is not None and math.isfinite(lag) else "not found",
            f"{max(step['queue'], default=0):,.0f}",
            *(f"{step['cpu'].get(name, 0.0):.2f}" for name in curve.PARTS),
            f"{100 * step['idle']:.0f}", f"{100 * step['steal']:.1f}",
            ", ".join(step["reasons"]) or ("held" if step["rate"] else ""),
        )  # fmt: skip


def _memory(signals: Mapping[str, Any]) -> Iterator[Row]:
    for each, own in signals.items():
        idle, last = own["steps"][0], own["steps"][-1]
        for name, most in last["memory"].items():
            most = max(step["memory"].get(name, 0.0) for step in own["steps"])
            at_rest = idle["memory"].get(name, 0.0)
            yield (NOUNS[each], NAMES.get(name, name), f"{at_rest:,.0f}", f"{most:,.0f}")


def _series(signals: Mapping[str, Any]) -> str:
    rate = signals.get("points", {}).get("capacity", {}).get("arrived")
    return f"{rate * POINT_SECONDS:,.0f}" if rate else ""


def _seconds(value: float) -> str:
    return wording.number(value, 4)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in lines)


def _finite(value: Any) -> Any:
    """The same with None for every number that JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value


def _whole(path: Path, content: str) -> None:
    draft = path.with_name(f".{path.name}.partial")
    draft.write_text(content)
    os.replace(draft, path)
