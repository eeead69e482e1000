"""The stack of this machine: started, told of, taken down; for `rollout`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli.screen import ERROR, err, out
from harness.errors import NeedError
from harness.linux.stop_signals import interruptible
from harness.stack import catalog, ledger, lifecycle, readback, selection, supply
from harness.stack.config import GRAFANA_PASSWORD, Stack
from harness.stack.grafana import sources
from harness.stack.lifecycle import Started
from harness.stack.selection import Choice
from harness.targets.kubernetes.dashboards import GRAFANA, NONE

WIDE = 110  # columns that a table of the plan needs
NEXT = (
    "harness open NAME opens a page, harness evaluate --stack full measures with it, harness ramp "
    "says how much it takes, harness down takes it down."
)


def up(
    require: list[str],
    bind: str,
    retention_hours: int,
    dashboards: str = "",
    *,
    plan: bool = False,
    as_json: bool = False,
) -> None:
    """Start it with the components that are `require`d, or say what would be got.

    `dashboards` are `grafana`, which is then required, or `none`; empty: Grafana if it can be had.
    """
    more = [GRAFANA] if dashboards == GRAFANA and GRAFANA not in require else []
    roles = [
        role
        for role in lifecycle.select([*require, *more])
        if dashboards != NONE or role.name != GRAFANA
    ]
    choices = lifecycle.plan(roles, supply.cache())
    if plan:
        _print_plan(choices, as_json)
        return
    lifecycle.require_all(roles)
    stack = Stack(lifecycle.home(), bind, retention_hours=retention_hours)
    tell = partial(err.print, markup=False, soft_wrap=True)
    with interruptible():
        started = lifecycle.up(stack, roles, tell)
    left_out = {"Grafana": "--dashboards none."} if dashboards == NONE else {}
    left_out |= {
        component.title: selection.why_not([component])
        for role in roles
        for component in role.candidates
        if component.name not in started.ready and selection.why_not([component])
    }
    if as_json:
        out.print_json(json.dumps(_described(started, left_out)))
    else:
        _print_started(started, left_out)


def status(as_json: bool) -> None:
    """Say how it is, and prove it again; exit code 2 if it is not up or lacks something."""
    now = ledger.state()
    if now is None:
        raise NeedError("The stack is not up.", next_step="Start it: harness up.")
    stack = lifecycle.standing(now)
    lacking = lifecycle.missing(now)
    found = [] if lacking else readback.prove(stack)
    if as_json:
        told = {"ready": not lacking, "missing": lacking, "proof": [asdict(one) for one in found]}
        out.print_json(json.dumps({"target": "local", "folder": now.folder, **told}))
    for arrival in () if as_json else found:
        out.print(f"{arrival.signal}: found in {arrival.backend} after {arrival.seconds:.2f} s")
    if lacking:
        err.print(f"The stack lacks {', '.join(lacking)}.")
        raise typer.Exit(ERROR)
    if not as_json:
        out.print(f"\nNext: {NEXT}", soft_wrap=True)


def down() -> None:
    """Take it down, and say what was done."""
    with interruptible() as stopping:
        stopping.shield()  # half of a stack is of no use
        done = lifecycle.down()
    for line in done:
        out.print(escape(line), soft_wrap=True)
    if not done:
        out.print("The stack is not up.")


def _print_plan(choices: list[Choice], as_json: bool) -> None:
    rows = [_planned(choice) for choice in choices]
    if as_json:
        out.print_json(json.dumps({"cache": str(supply.cache()), "components": rows}))
        return
    if out.width < WIDE:  # an address does not fit into a column
        for row in rows:
            keeps = f" for {row['keeps']}" if row["keeps"] else ""
            named = "{component} {version} ({licence})".format(**row)
            out.print(escape(f"{named}{keeps}: {row['how']}"))
            out.print(escape(f"  {row['from']} {row['size']}".rstrip()), soft_wrap=True)
    else:
        shown = Table(*rows[0], box=None, pad_edge=False)
        for row in rows:
            shown.add_row(*map(escape, row.values()))
        shown.columns[5].overflow = "fold"
        out.print(shown)
    out.print(f"\nCache: {escape(str(supply.cache()))}\nNext: harness up", soft_wrap=True)


def _planned(choice: Choice) -> dict[str, str]:
    component, offer = choice.component, choice.offer
    if offer is None:
        how = "left out" if choice.role.optional else "missing"
        where, size = selection.why_not(choice.role.candidates), ""
    else:
        how, where, size = offer.how, offer.where, offer.size
    return {
        "keeps": component.signal,
        "component": component.title, "version": component.version, "licence": component.licence,
        "how": how, "from": where, "size": size,
    }  # fmt: skip


def _described(started: Started, left_out: Mapping[str, str]) -> dict[str, Any]:
    now = ledger.state()
    assert now is not None
    components = []
    for one in now.components:
        facts = {key: getattr(one, key) for key in ("name", "version", "pid", "cgroup", "log")}
        components.append({**facts, "unit": one.unit, "ready_seconds": started.ready[one.name]})
    return {
        "folder": now.folder,
        "endpoints": _endpoints(started),
        "keeps": dict(started.stack.keeps),
        "components": components,
        "queryable": [asdict(arrival) for arrival in started.arrivals],
        "seconds": started.seconds,
        "left_out": dict(left_out),
    }


def _endpoints(started: Started) -> dict[str, str]:
    stack, known = started.stack, catalog.known()
    otlp = {"OTLP/HTTP": stack.url("otelcol"), "OTLP/gRPC": stack.url("otelcol", "grpc")}
    others = {known[n].title: stack.url(n) for n in started.ready if n != "otelcol" and n in known}
    return (otlp if "otelcol" in started.ready else {}) | others


def _print_started(started: Started, left_out: Mapping[str, str]) -> None:
    for arrival in started.arrivals:
        found = f"found in {arrival.backend} after {arrival.seconds:.2f} s"
        out.print(f"{arrival.signal}: {found}")
    out.print(f"All of it took {started.seconds:.1f} s from the first start.\n")
    shown = Table("what", "where", box=None, pad_edge=False, show_header=False)
    for what, where in _endpoints(started).items():
        shown.add_row(what, where)
    out.print(shown)
    now = ledger.state()
    for one in now.components if now else ():
        kept = f"unit {one.unit}" if one.unit else f"process {one.pid}"
        ready = f"ready after {started.ready[one.name]:.1f} s"
        said = f"{one.name} {one.version}: {ready}, {kept}, log {one.log}"
        out.print(escape(said), soft_wrap=True)
    if "grafana" in started.ready:
        password = started.stack.folder / GRAFANA_PASSWORD
        out.print(escape(f"Grafana's user is admin, its password is in {password}"), soft_wrap=True)
        if lacks := sources.lacking(started.stack):
            plugin = "`grafana cli plugins install NAME` brings one, before the next harness up."
            out.print(escape(f"{lacks} {plugin}"), soft_wrap=True)
    for title, why in left_out.items():
        out.print(escape(f"{title} was not taken: {why}"), soft_wrap=True)
    out.print(f"\nNext: {NEXT}", soft_wrap=True)
