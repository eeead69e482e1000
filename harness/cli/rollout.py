"""`harness up`, `harness status` and `harness down`: by `local_stack`, in clusters by `cluster`."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli import cluster, external, keepers, local_stack, selectors
from harness.cli.dashboards import Dashboards, wanted
from harness.cli.external import Otlp, OtlpSecret, QueryLogs, QueryMetrics, QueryTraces
from harness.cli.images import BundleFile, PullSecret, Registry
from harness.cli.keepers import Logs, Profiles, Traces
from harness.cli.machines import (
    ControlPlanes,
    Create,
    Inventory,
    Maker,
    Reset,
    Unaccelerated,
    Upgrade,
    Variables,
    asked,
)
from harness.cli.profile import Charts, Profile, Values
from harness.cli.screen import errors
from harness.cli.selectors import Excluded, Namespaces, PodSelector
from harness.errors import InputError
from harness.stack.config import Stack
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.external import External
from harness.targets.kubernetes.selectors import Selectors

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
            "victorialogs, parca, grafana); may be repeated.",
        ),
    ] = None,
    dashboards: Dashboards = "",
    traces: Traces = "",
    logs: Logs = "",
    profiles: Profiles = "",
    bind: Annotated[
        str, typer.Option("--bind", help="The address of OTLP and of the query endpoints.")
    ] = "127.0.0.1",
    retention: Annotated[
        int | None,
        typer.Option(
            "--retention",
            min=1,
            help="Hours for which data are kept (24; in a cluster what is there, else 24); log "
            "lines 24 at least.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is there as JSON.")] = False,
    target: Target = "local",
    nodes: Annotated[
        int | None,
        typer.Option(
            "--nodes",
            min=1,
            help="kind: nodes of a new cluster, the control plane among them (3).",
            show_default=False,
        ),
    ] = None,
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
    control_planes: ControlPlanes = 1,
    machines: Maker = "containers",
    unaccelerated: Unaccelerated = False,
    variables: Variables = None,
    upgrade: Upgrade = "",
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
    agent_namespaces: Namespaces = "",
    agent_excluded_namespaces: Excluded = "",
    agent_pod_selector: PodSelector = "",
    name: Name = "harness",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    namespace: Namespace = "harness",
    otlp: Otlp = "",
    otlp_secret: OtlpSecret = "",
    query_traces: QueryTraces = "",
    query_metrics: QueryMetrics = "",
    query_logs: QueryLogs = "",
    profile: Profile = "poc",
    charts: Charts = "",
    values: Values = None,
) -> None:
    """Start the observability stack and prove that data flows through it.

    On this machine (needs root, except for --plan), in a cluster that kind makes, in an existing
    one, or on machines that become one (vm).

    Examples:

      harness up --plan

      harness up --require tempo --retention 48

      harness up --profiles parca

      harness up --target kind

      harness up --target kind --dashboards grafana

      harness up --target kind --profiles parca

      harness up --target kind --bundle harness.tar

      harness up --target kind --agent-namespaces shop --agent-pod-selector 'tier!=test'

      harness up --target vm --inventory hosts.ini

      harness up --target vm --create 3 --image IMAGE

      harness up --target vm --upgrade 1.35

      harness up --target existing --context my-cluster --profile production --plan

      harness up --target existing --otlp http://otelcol.telemetry:4318
    """
    made = asked(
        target, inventory, create, machines, unaccelerated, variables,
        control_planes=control_planes, upgrade=upgrade,
    )  # fmt: skip
    seen = Selectors(agent_namespaces, agent_excluded_namespaces, agent_pod_selector)
    shown = wanted(dashboards, require or [])
    kept = keepers.wanted(traces, logs, profiles, require or [])
    if target != "local":
        cluster.refuse({"bind": bind != "127.0.0.1"}, target)
        external.check(otlp, require or [])
        given = Options(
            target, name, nodes, image, keep, kubeconfig, context, namespace, retention,
            registry, bundle, pull_secret, storage, storage_class,
            profile=profile, charts=charts, values=tuple(values or ()), dashboards=shown,
            keepers=kept, machines=made, selectors=seen, otlp=otlp, otlp_secret=otlp_secret,
            query_traces=query_traces, query_metrics=query_metrics, query_logs=query_logs,
        )  # fmt: skip
        (cluster.plan if plan else cluster.up)(given, as_json)
        return
    cluster.refuse({"bundle": bundle, "registry": registry, "pull-secret": pull_secret}, target)
    cluster.refuse({"storage": storage, "storage-class": storage_class}, target)
    cluster.refuse(selectors.given(seen), target)
    own = External(otlp, otlp_secret, query_traces, query_metrics, query_logs)
    cluster.refuse(external.given(own), target)
    cluster.refuse({"profile": profile != "poc", "charts": charts, "values": values}, target)
    hours = retention or Stack.retention_hours
    needed = keepers.required(kept, require or [])
    local_stack.up(needed, bind, hours, shown, plan=plan, as_json=as_json)


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
    local_stack.status(bool(output))


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
    local_stack.down()
