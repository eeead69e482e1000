"""`harness up` and `harness down`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from harness import rollout
from harness.cli.screen import err, errors, out
from harness.stack import supply
from harness.stack.catalog import Component
from harness.stack.config import PROGRAMS, Stack
from harness.stack.supply import Offer


@errors
def up_command(
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be got, from where and how large.")
    ] = False,
    require: Annotated[
        list[str] | None,
        typer.Option("--require", help="Fail without this component; may be repeated."),
    ] = None,
    bind: Annotated[
        str, typer.Option("--bind", help="The address of OTLP and of the query endpoints.")
    ] = "127.0.0.1",
) -> None:
    """Start the observability stack on this machine and prove that data flows through it."""
    components = rollout.select(require or [])
    offers = rollout.plan(components, supply.cache())
    if plan:
        out.print(_table(offers))
        out.print(f"\nCache: {escape(str(supply.cache()))}\nNext: harness up", soft_wrap=True)
        return
    rollout.require_all(components)
    stack = Stack(rollout.home(), bind)
    arrivals = rollout.up(stack, components, lambda line: err.print(escape(line), soft_wrap=True))
    for arrival in arrivals:
        out.print(f"{arrival.signal}: found in {arrival.backend} after {arrival.seconds:.2f} s")
    out.print(_addresses(stack))
    for component, offer in offers:
        if component.name not in PROGRAMS or offer is None:
            out.print(f"{component.title} was left out: {_why_not(component)}")
    out.print(f"Logs: {stack.folder / 'logs'}\nNext: harness down takes it down.", soft_wrap=True)


@errors
def down_command() -> None:
    """Take the stack down: its processes, cgroups, data and configuration; the cache stays."""
    done = rollout.down()
    for line in done:
        out.print(escape(line), soft_wrap=True)
    if not done:
        out.print("The stack is not up.")


def _table(offers: list[tuple[Component, Offer | None]]) -> Table:
    shown = Table(
        "component", "version", "licence", "how", "from", "size", box=None, pad_edge=False
    )
    for component, offer in offers:
        if offer is None:
            cells = ("left out" if component.optional else "missing", _why_not(component), "")
        else:
            cells = (offer.how, offer.where, offer.size)
        shown.add_row(component.title, component.version, component.licence, *map(escape, cells))
    shown.columns[4].overflow = "fold"
    return shown


def _why_not(component: Component) -> str:
    offers = supply.offers(component, supply.cache())
    return " ".join(f"{offer.how}: {offer.refusal}" for offer in offers if offer.refusal)


def _addresses(stack: Stack) -> Table:
    ports = stack.ports
    shown = Table("what", "where", box=None, pad_edge=False, show_header=False)
    for what, where in {
        "OTLP/HTTP": stack.url(ports.otlp_http),
        "OTLP/gRPC": stack.url(ports.otlp_grpc),
        "Prometheus": stack.url(ports.prometheus),
        "Tempo": stack.url(ports.tempo),
        "Loki": stack.url(ports.loki),
    }.items():
        shown.add_row(what, where)
    return shown
