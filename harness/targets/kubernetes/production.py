"""Rolls the stack out by its projects' own charts, to stay: `--profile production`; for `profiles`.

The cluster is made or taken as for the proof of concept; what goes into it is in charts.toml.
"""

from __future__ import annotations

import contextlib
import json
import platform
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import ComponentError, HarnessError, InputError
from harness.stack.config import Stack
from harness.targets.kubernetes import (
    charts,
    chosen,
    condition,
    helm,
    images,
    namespaces,
    needs,
    node_check,
    pages,
    pods,
    preflight,
    proof,
    rendering,
    rollout,
    selectors,
    sources,
    standing,
    values,
    workloads,
)
from harness.targets.kubernetes.archive import Archive
from harness.targets.kubernetes.charts import Chart
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kind import Kind
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.pages import Page
from harness.targets.kubernetes.preflight import Check
from harness.targets.kubernetes.rollout import RolledOut, Tell, timed

PASSWORD = "grafana-admin"
SAMPLE = 10  # requests for one span, as manifests/production/harness-agents.yaml has it
ASKED = proof.Asked(times=10 * SAMPLE)
KEEPS = {"traces": "tempo", "metrics": "prometheus", "logs": "loki"}
HOSTS = {
    "otelcol": "otel-gateway", "prometheus": "monitoring-prometheus",
    "tempo": "tempo", "loki": "loki",
}  # fmt: skip
PAGES = {
    "grafana": Page(
        "Grafana", "monitoring-grafana", 80, 3000,
        user="admin", secret=(PASSWORD, "admin-password"),
    ),
    "prometheus": Page("Prometheus", "monitoring-prometheus", 9090, 9090),
}  # fmt: skip
_SECONDS, _PATIENCE_SECONDS = 600, 180.0  # a volume may have to be made, a node to be added


@dataclass(frozen=True)
class Step:
    """One chart with the files and values that it is given, and what tells that they changed."""

    chart: Chart
    files: Sequence[Path]
    more: Mapping[str, Any]

    @property
    def note(self) -> str:
        """What the release's revision is described by."""
        return f"harness {charts.fingerprint(self.chart, self.files, self.more)}"


def up(options: Options, tell: Tell) -> RolledOut:
    """Make or take the cluster, install chart after chart, prove; a failed release is undone.

    Releases that are there with this version and these values are left as they are. Of a bundle
    come images, charts and further values; what an operator starts by itself it may pull.
    """
    chosen.check(options)
    charts.require(options.charts)
    charts.given(options.values)
    with _unpacked(options, sources.carried(options)) as given:
        return rollout.up(given, tell, install)


@contextlib.contextmanager
def _unpacked(options: Options, carried: Archive | None) -> Iterator[Options]:
    """The same with the charts and values of the bundle, if there is one."""
    if carried is None:
        yield options
        return
    if said := [f"--{name}" for name in ("charts", "values") if getattr(options, name)]:
        raise InputError(
            f"{' and '.join(said)} does not go with --bundle.",
            "Charts and values are in the bundle: images were packed for them.",
            f"Leave it out, or write another: harness bundle FILE --profile production {said[0]}.",
        )
    with tempfile.TemporaryDirectory(prefix="harness-charts-") as folder:
        further = carried.unpack(Path(folder))
        yield replace(options, charts=folder, values=tuple(further))


def install(
    options: Options,
    cluster: Cluster,
    image: str,
    bundle: Archive | None,
    phases: dict[str, float],
    tell: Tell,
) -> RolledOut:
    """What goes into a cluster that is there; `rollout` calls it."""
    steps, described = _steps(options, image), stack()
    shown = pages.commands(cluster, PAGES)
    due = _due(cluster, steps)
    if not due:
        with timed(phases, "proof", tell):
            proved = proof.prove(cluster, described, ASKED)
        return RolledOut(cluster, False, phases, proved, shown)
    with timed(phases, "cluster checks", tell):
        preflight.require(needs.checks(cluster, platform.machine()))
        namespaces.require(cluster, "--namespace", namespaces.PRODUCTION)
    if options.target == "kind":
        with timed(phases, "images", tell):
            sources.load(Kind(options.name, chosen.home(options.name)), bundle, [image], tell)
    with (
        rollout.removed_if_new(cluster, namespaces.PRODUCTION),
        timed(phases, "node checks", tell),
    ):
        _require_nodes(cluster, image, steps, tell)
    _make_password(cluster)
    for step in due:
        with timed(phases, step.chart.release, tell):
            _install(cluster, step, options.charts)
    with timed(phases, "proof", tell):
        proved = proof.prove(cluster, described, ASKED)
    return RolledOut(cluster, True, phases, proved, shown)


def stack() -> Stack:
    """The stack as its services are called, for the proof."""
    return Stack(values.FOLDER, keeps=KEEPS, hosts=HOSTS)


def plan(options: Options) -> dict[str, Any]:
    """Which charts `up` would install, what they keep and where; changes nothing."""
    chosen.check(options)
    carried = sources.carried(options)
    there, unasked = standing.found(options, namespaces.PRODUCTION)
    due, is_new = _missing(options, carried, there)
    rows = [
        {
            "title": each.title, "chart": each.chart, "version": each.version,
            "licence": each.licence, "repository": _origin(each, carried), "release": each.release,
            "namespace": options.namespace, "does": each.does, "gib": each.gib,
            "volumes": [vars(volume) for volume in each.volumes],
            **({"is_there": each.release not in due} if there else {}),
        }
        for each in charts.known()
    ]  # fmt: skip
    checks = [*preflight.tools(chosen.tools(options)), *unasked]
    if there and options.target == "existing":
        checks += _checks(there)
    made: dict[str, Any] = {"target": options.target, "profile": options.profile}
    made |= {
        "namespace": options.namespace,
        "charts": rows,
        "gib": sum(each.gib for each in charts.known()),
    }
    if options.target == "kind":
        made["cluster"] = standing.configuration(options, there)
    if there:
        made["standing"] = standing.stack(is_new=is_new, is_there=not due)
    if seen := selectors.values(options.selectors):
        made["agents"] = seen
    if carried is not None:
        made["images"] = sources.told(options, carried, carried.names)
    return made | {"checks": [vars(check) for check in checks]}


def status(options: Options, *, prove: bool = True) -> dict[str, Any]:
    """The releases, nodes and pods as they are now, and the proof made again."""
    cluster = chosen.found(options)
    found = {each.release: helm.state(cluster, each.release) for each in charts.known()}
    whole = all(each is not None and each["status"] == "deployed" for each in found.values())
    whole = whole and all(_has_all(cluster, each) for each in charts.known())
    there = [name for name, each in found.items() if each is not None]
    amiss = [said for name in there for said in workloads.amiss(cluster, name)]
    asked = ASKED if prove else None
    whole = whole and not amiss
    told = condition.told(options, cluster, running(cluster), whole, stack(), asked)
    return {**told, "profile": options.profile, "releases": found, "amiss": amiss}


def running(cluster: Cluster) -> list[dict[str, Any]]:
    """The pods of the namespace that count, see `pods.current`."""
    return pods.current(cluster.get("pods"))


def is_ours(cluster: Cluster) -> bool:
    """Whether the namespace is one that `up` made with this profile."""
    return namespaces.is_ours(cluster, namespaces.PRODUCTION)


def _steps(options: Options, image: str) -> list[Step]:
    further = charts.given(options.values)
    own: dict[str, Any] = {"image": image}
    if seen := selectors.values(options.selectors):
        own["agents"] = seen
    return [
        Step(each, [each.file, *further[each.release]], {} if each.repository else own)
        for each in charts.known()
    ]


def _require_nodes(cluster: Cluster, image: str, steps: Sequence[Step], tell: Tell) -> None:
    """NeedError unless the cluster admits pods as the agents', and kernels their collectors."""
    (agents,) = (each for each in steps if not each.chart.repository)
    node_check.require_admitted(cluster, image)
    collectors = rendering.collectors(agents.chart, agents.files)
    node_check.require(cluster, image, collectors, tell)


def _is_there(cluster: Cluster, step: Step) -> bool:
    now = helm.state(cluster, step.chart.release)
    same = now is not None and (now["status"], now["note"]) == ("deployed", step.note)
    return same and not workloads.amiss(cluster, step.chart.release)


def _due(cluster: Cluster, steps: Sequence[Step]) -> list[Step]:
    """Those that are not there as they would be; where all are and a pod is not ready, all."""
    if due := [step for step in steps if not _is_there(cluster, step)]:
        return due
    return [] if all(map(pods.is_ready, running(cluster))) else list(steps)


def _missing(
    options: Options, carried: Archive | None, there: Cluster | None
) -> tuple[set[str], bool]:
    """The releases that `up` would install, by the values that it takes; whether none is there."""
    with _unpacked(options, carried) as given:
        steps = _steps(given, images.name())
        due = _due(there, steps) if there else steps
        is_new = not (there and any(_is_there(there, step) for step in steps))
        return {step.chart.release for step in due}, is_new


def _install(cluster: Cluster, step: Step, archives: str) -> None:
    chart = step.chart
    with tempfile.TemporaryDirectory(prefix="harness-helm-") as folder:
        more = Path(folder) / "values.json"
        more.write_text(json.dumps(step.more))
        release = helm.Release(
            chart.release, chart.place(archives), [*step.files, *([more] if step.more else [])],
            note=step.note, pods=running, is_whole=lambda there: _has_all(there, chart),
            patience=_PATIENCE_SECONDS, seconds=_SECONDS,
        )  # fmt: skip
        try:
            helm.settle(cluster, chart.release)
            helm.upgrade(cluster, release)
        except HarnessError as error:
            raise ComponentError(
                f"The chart {chart.chart} {chart.version} (release {chart.release}) could not be "
                f"installed. {error.what}",
                f"{error.why} {_undone(cluster, chart)}".strip(),
                error.next_step,
            ) from error


def _undone(cluster: Cluster, chart: Chart) -> str:
    now = helm.state(cluster, chart.release)
    if now is None:
        return "What was made of it was removed again; its volume claims stay."
    if now["status"] == "deployed" and all(map(pods.is_ready, running(cluster))):
        return "The revision before it runs again."
    if now["status"] == "deployed":
        return "helm went back to the revision before it, and not all pods are ready."
    return f"It could not be undone: helm calls it {now['status']}."


def _has_all(cluster: Cluster, chart: Chart) -> bool:
    """Whether what an operator makes after helm has ended is there, with all its pods."""
    found = {each["metadata"]["name"]: each for each in cluster.get("statefulsets")}
    return all(
        name in found
        and found[name].get("status", {}).get("readyReplicas", 0) == found[name]["spec"]["replicas"]
        for name in chart.statefulsets
    )


def _origin(chart: Chart, carried: Archive | None) -> str:
    """Where helm gets a chart of others; ours has none."""
    return str(carried.file) if carried and chart.repository else chart.repository


def _checks(cluster: Cluster) -> Iterator[Check]:
    try:
        yield from needs.checks(cluster, platform.machine())
    except HarnessError as error:
        yield standing.unasked(error)


def _make_password(cluster: Cluster) -> None:
    """Grafana's, which is made once and told to nobody."""
    if not cluster.get("secret", PASSWORD):
        data = {"admin-user": "admin", "admin-password": secrets.token_urlsafe(24)}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": PASSWORD}}
        cluster.apply({**secret, "stringData": data})
