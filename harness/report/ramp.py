"""What a ramp found, as ramp.json, ramp.md and figures; `ramp` calls it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from harness.analysis import costs as bills
from harness.analysis import ramp as analysis
from harness.analysis.ramp import Capacity, Step
from harness.errors import StoreError
from harness.report import capacity, curve
from harness.report.capacity import NOUNS, seconds, spoken
from harness.results import documents
from harness.wire.files import write_whole

SCHEMA = 1
WHOLE = ("host", bills.NOBODY)  # told in any case; the others where they can be told from zero
_TEMPLATE = Path(__file__).with_name("ramp.md.j2")

Row = tuple[str, ...]


def write(folder: Path, about: Mapping[str, Any], steps: Sequence[Step]) -> dict[str, Any]:
    """Write all of it into the run's folder; what ramp.json says. StoreError where that fails."""
    found = document(about, steps)
    try:
        write_whole(folder / "ramp.json", documents.text(found))
        write_whole(folder / "ramp.md", text(found))
        curve.write(folder, found)
    except OSError as error:
        raise StoreError(
            f"Cannot write into {folder}: {error.strerror}.",
            next_step="Make room there, or let it be written to.",
        ) from error
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
            "verdict": capacity.verdict(each, held, costs, cpus),
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
        "nobody": analysis.nobody(step),
        "shared": analysis.shared(step),
        "reasons": list(analysis.judge(step, limit)),
    }


def text(found: Mapping[str, Any]) -> str:
    """ramp.md."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.globals["table"] = _table
    facts, asked = found["facts"], found["asked"]
    signals = found["signals"]
    parts = list(curve.parts(signals))
    return environment.from_string(_TEMPLATE.read_text()).render(
        r=found,
        machine=", ".join(str(facts[k]) for k in ("cpu_model", "distribution", "virtualisation")),
        command=shlex.join(asked["command"]),
        nouns=NOUNS,
        bill=list(_bill(signals)),
        heads=[curve.short(name, _titles(signals)) for name in parts],
        steps={each: list(_steps(own["steps"], parts)) for each, own in signals.items()},
        accounts=[
            capacity.accounted(k, own["account"]) for k, own in signals.items() if own["account"]
        ],
        memory=list(_memory(signals)),
        shared=[
            f"{k} at {step['rate']:,.0f}/s ({step['nobody']:.1f} CPUs, {100 * step['steal']:.0f} %)"
            for k, own in signals.items() for step in own["steps"] if step["shared"]
        ],
    )  # fmt: skip


def _bill(signals: Mapping[str, Any]) -> Iterator[Row]:
    for each, own in signals.items():
        for cost in (c for c in own["costs"] if c["low"] > 0 or c["component"] in WHOLE):
            known = math.isfinite(cost["low"])
            interval = f"[{seconds(cost['low'])}, {seconds(cost['high'])}]" if known else "?"
            name = spoken(cost["component"], own["steps"][0]["titles"])
            yield (
                NOUNS[each], name, seconds(cost["seconds"]), interval, seconds(cost["idle"]),
                f"{cost['residual']:.1f} %", str(cost["steps"]),
            )  # fmt: skip


def _titles(signals: Mapping[str, Any]) -> Mapping[str, str]:
    return {k: v for own in signals.values() for k, v in own["steps"][0]["titles"].items()}


def _steps(steps: Sequence[Mapping[str, Any]], parts: Sequence[str]) -> Iterator[Row]:
    for step in steps:
        lag = step["lag"]
        yield (
            f"{step['rate']:,.0f}", f"{step['accepted']:,.0f}", f"{step['arrived']:,.0f}",
            f"{lag:.1f}" if lag is not None and math.isfinite(lag) else "not found",
            f"{max(step['queue'], default=0):,.0f}",
            *(f"{step['cpu'].get(name, 0.0):.2f}" for name in parts),
            f"{100 * step['idle']:.0f}", f"{100 * step['steal']:.1f}",
            ", ".join(step["reasons"]) or ("held" if step["rate"] else ""),
        )  # fmt: skip


def _memory(signals: Mapping[str, Any]) -> Iterator[Row]:
    for each, own in signals.items():
        idle, last = own["steps"][0], own["steps"][-1]
        for name, most in last["memory"].items():
            most = max(step["memory"].get(name, 0.0) for step in own["steps"])
            at_rest = idle["memory"].get(name, 0.0)
            yield (NOUNS[each], spoken(name, idle["titles"]), f"{at_rest:,.0f}", f"{most:,.0f}")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in lines)
