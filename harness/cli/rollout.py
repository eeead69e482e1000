"""`harness up`, `harness status` and `harness down`, in clusters by `cli.cluster`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli import cluster
from harness.cli.images import BundleFile, PullSecret, Registry
from harness.cli.machines import Create, Inventory, Maker, Reset, Unaccelerated, Variables, asked
from harness.cli.screen import ERROR, err, errors, out
from harness.errors import InputError, NeedError
from harness.linux.stop_signals import interruptible
from harness.stack import catalog, ledger, lifecycle, readback, selection, supply
from harness.stack.config import GRAFANA_PASSWORD, Stack
from harness.stack.lifecycle import Started
from harness.stack.selection import Choice
from harness.targets.kubernetes.chosen import Options

Target = Annotated[
    str, typer.Option("--target", metavar="local|kind|existing|vm", help="Where the stack is.")
]
Name = Annotated[str, typer.Option("--name", help="kind, vm: the name of the cluster.")]
Context = Annotated[
    str,
    typer.Option("--context", help="existing: the context; needed where there are several."),
]
Kubeconfig = Annotated[
    str, typer.Option("--kubeconfig", metavar="FILE", help="existing: where it is described.")
]
Namespace = Annotated[str, typer.Option("--namespace", help="In a cluster: the namespace.")]
Profile = Annotated[
    str,
    typer.Option(
        "--profile", metavar="poc|production", help="In a cluster: to try it, or to stay."
    ),
]

WIDE = 110  # columns that a table of the plan needs
NEXT = (
    "harness open NAME opens a page, harness evaluate --stack full measures with it, harness ramp "
    "says how much it takes, harness down takes it down."
)


@errors
def up_command(
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be got, from where and how large.")
    ] = False,
    require: Annotated[
        list[str] | None,
        typer.Option(
            "--require",
            help="Fail without this component (otelcol, prometheus, tempo, jaeger, loki, "
            "victorialogs, grafana); may be repeated.",
        ),
    ] = None,
    bind: Annotated[
        str, typer.Option("--bind", help="The address of OTLP and of the query endpoints.")
    ] = "127.0.0.1",
    retention: Annotated[
        int,
        typer.Option(
            "--retention", min=1, help="Hours for which data are kept; log lines 24 at least."
        ),
    ] = 24,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is there as JSON.")] = False,
    target: Target = "local",
    nodes: Annotated[
        int, typer.Option("--nodes", min=1, help="kind: nodes, the control plane among them.")
    ] = 3,
    image: Annotated[
        str,
        typer.Option(
            "--image", metavar="IMAGE", help="kind, vm: what nodes or machines are made from."
        ),
    ] = "",
    keep: Annotated[
        bool, typer.Option("--keep", help="kind, vm: if it fails keep what was made, to look at.")
    ] = False,
    inventory: Inventory = "",
    create: Create = 0,
    machines: Maker = "containers",
    unaccelerated: Unaccelerated = False,
    variables: Variables = None,
    bundle: BundleFile = None,
    registry: Registry = "",
    pull_secret: PullSecret = "",
    storage: Annotated[
        str,
        typer.Option(
            "--storage",
            metavar="SIZE",
            help="In a cluster: a volume for each component, as 10Gi; else data go with pods.",
        ),
    ] = "",
    storage_class: Annotated[
        str, typer.Option("--storage-class", help="Of those volumes, if not the default one.")
    ] = "",
    name: Name = "harness",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    namespace: Namespace = "harness",
    profile: Profile = "poc",
    charts: Annotated[
        str,
        typer.Option(
            "--charts", metavar="DIR", help="production: the charts' archives, without a network."
        ),
    ] = "",
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--values",
            metavar="RELEASE=FILE",
            help="production: further values of a chart; may be repeated.",
        ),
    ] = None,
) -> None:
    """Start the observability stack and prove that data flows through it.

    On this machine (needs root, except for --plan), in a cluster that kind makes, in an existing
    one, or on machines that become one (vm).

    Examples:

      harness up --plan

      harness up --require tempo --retention 48

      harness up --target kind

      harness up --target kind --bundle harness.tar

      harness up --target vm --inventory hosts.ini

      harness up --target vm --create 3 --image IMAGE

      harness up --target existing --context my-cluster --profile production --plan
    """
    made = asked(target, inventory, create, machines, unaccelerated, variables)
    if target != "local":
        cluster.refuse({"require": require, "bind": bind != "127.0.0.1"}, target)
        given = Options(
            target, name, nodes, image, keep, kubeconfig, context, namespace, retention,
            registry, bundle, pull_secret, storage, storage_class,
            profile=profile, charts=charts, values=tuple(values or ()), machines=made,
        )  # fmt: skip
        (cluster.plan if plan else cluster.up)(given, as_json)
        return
    cluster.refuse({"bundle": bundle, "registry": registry, "pull-secret": pull_secret}, target)
    cluster.refuse({"storage": storage, "storage-class": storage_class}, target)
    cluster.refuse({"profile": profile != "poc", "charts": charts, "values": values}, target)
    roles = lifecycle.select(require or [])
    choices = lifecycle.plan(roles, supply.cache())
    if plan:
        _print_plan(choices, as_json)
        return
    lifecycle.require_all(roles)
    stack = Stack(lifecycle.home(), bind, retention_hours=retention)
    tell = partial(err.print, markup=False, soft_wrap=True)
    with interruptible():
        started = lifecycle.up(stack, roles, tell)
    left_out = {
        component.title: selection.why_not([component])
        for role in roles
        for component in role.candidates
        if component.name not in started.ready and selection.why_not([component])
    }
    if as_json:
        out.print_json(json.dumps(_described(started, left_out)))
    else:
        _print_started(started, left_out)


@errors
def status_command(
    target: Target = "local",
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="json", help="As JSON.", show_default=False)
    ] = "",
    name: Name = "harness",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    namespace: Namespace = "harness",
    profile: Profile = "poc",
) -> None:
    """Say how the stack is, and prove again that data flows; exit code 2 if it is not ready.

    Examples:

      harness status

      harness status --target kind -o json
    """
    if output not in ("", "json"):
        raise InputError(f"There is no output {output!r}.", next_step="Take json.")
    if target != "local":
        given = Options(
            target, name, kubeconfig=kubeconfig, context=context, namespace=namespace,
            profile=profile,
        )  # fmt: skip
        cluster.status(given, bool(output))
        return
    cluster.refuse({"profile": profile != "poc"}, target)
    _local_status(bool(output))


@errors
def down_command(
    target: Target = "local",
    reset: Reset = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="In a cluster: say what is left; nothing should be.")
    ] = False,
    name: Name = "harness",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    namespace: Namespace = "harness",
    profile: Profile = "poc",
    volumes: Annotated[
        bool, typer.Option("--volumes", help="production: delete the data, too.")
    ] = False,
    crds: Annotated[
        bool,
        typer.Option("--crds", help="production: delete the kinds of objects of Prometheus, too."),
    ] = False,
) -> None:
    """Take the stack down: its processes, cgroups, data and configuration; the cache stays.

    On this machine that needs root. A cluster of kind that `up` made is deleted, machines that it
    made are removed; in an existing cluster, and on other machines, the namespace is deleted. Of
    the profile production data stay, unless --volumes says otherwise.

    Examples:

      harness down

      harness down --target kind --verify

      harness down --target vm --reset
    """
    made = asked(target, reset=reset)
    if target != "local":
        given = Options(
            target, name, kubeconfig=kubeconfig, context=context, namespace=namespace,
            profile=profile, crds=crds, volumes=volumes, machines=made,
        )  # fmt: skip
        cluster.down(given, verify)
        return
    others = {"verify": verify, "profile": profile != "poc", "volumes": volumes, "crds": crds}
    cluster.refuse(others, target)
    with interruptible() as stopping:
        stopping.shield()  # half of a stack is of no use
        done = lifecycle.down()
    for line in done:
        out.print(escape(line), soft_wrap=True)
    if not done:
        out.print("The stack is not up.")


def _local_status(as_json: bool) -> None:
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
    for title, why in left_out.items():
        out.print(escape(f"{title} was not taken: {why}"), soft_wrap=True)
    out.print(f"\nNext: {NEXT}", soft_wrap=True)
