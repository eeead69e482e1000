"""Rolls the stack out in a cluster, says how it is, removes it; `cli` calls it."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.errors import CommandError
from harness.stack import catalog
from harness.stack.config import GRAFANA_PASSWORD, Stack
from harness.stack.grafana.shown import USER
from harness.targets.kubernetes import (
    archive,
    charts,
    chosen,
    dashboards,
    external,
    helm,
    images,
    keepers,
    kind,
    meant,
    namespaces,
    node_check,
    pages,
    preflight,
    proof,
    sources,
    standing,
    storage,
    values,
    wide,
)
from harness.targets.kubernetes.archive import Archive
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.dashboards import Choice
from harness.targets.kubernetes.kind import Kind, Wanted
from harness.targets.kubernetes.kubectl import OURS, Cluster
from harness.targets.kubernetes.pages import Page, Pages
from harness.targets.kubernetes.proof import Proved

Tell = Callable[[str], None]
UNSETTLED = (
    "Dashboards: grafana, if the stack that is there has it, or the nodes can have its image and "
    "start it; else none."
)
INSTALLED = "installation"
"""The phase after which all is there, if `up` says so or not."""
_DOWN = "`harness down` with what was said to this `up`"
PATHS = {"victorialogs": "/select/vmui/"}  # of pages that are not where a host's begin


@dataclass
class RolledOut:
    """What `up` did: seconds by phase, what the proof found, where the pages are.

    `dashboards` say whether Grafana is there, and why, where that is for `up` to choose.
    """

    cluster: Cluster
    changed: bool
    phases: dict[str, float] = field(default_factory=dict)
    proved: Proved = field(default_factory=Proved)
    pages: Mapping[str, str] = field(default_factory=dict)
    dashboards: Choice | None = None


Install = Callable[[Options, Cluster, str, Archive | None, dict[str, float], Tell], RolledOut]


def up(options: Options, tell: Tell, install: Install | None = None) -> RolledOut:
    """Make or take the cluster, install, prove; what this call made goes again if it fails.

    A second call with the same options, code and images changes nothing, and proves. `install` is
    another way to install and prove than the proof of concept's.
    """
    chosen.check(options)
    with chosen.alone(options):
        return _up(options, tell, install or _install)


def _up(options: Options, tell: Tell, install: Install) -> RolledOut:
    phases: dict[str, float] = {}
    with timed(phases, "checks", tell):
        chosen.require_tools(options)
        image, bundle = images.name(), sources.carried(options)
    fresh = False
    if options.target == "kind":
        own = Kind(options.name, chosen.home(options.name))
        if not own.is_whole:
            fresh = True
            with timed(phases, "cluster", tell):
                nodes = sources.node_image(options, bundle, tell)
                own.create(_wanted(options, nodes), tell, keep=options.keep)
        else:
            own.require_same(options.nodes, options.image)
            own.complete()
        cluster = kind.cluster(own, options.namespace)
    else:
        cluster = chosen.existing(options)
    try:
        namespaces.await_gone(cluster, "--namespace", tell)
        return install(options, cluster, image, bundle, phases, tell)
    except BaseException:
        if fresh and not options.keep:
            tell("the cluster that was made for it is deleted again; --keep keeps it")
            own.delete()
        elif phases.keys() & {INSTALLED, *(each.release for each in charts.known())}:
            stays = f"what was installed in {cluster.namespace} stays, to look into it"
            tell(f"{stays}: {_down(options)}")
        raise


def _down(options: Options) -> str:
    """What removes what stays, and how far."""
    if options.target == "kind":
        return f"{_DOWN} deletes the cluster with it"
    if options.profile == archive.PRODUCTION:
        return (
            f"{_DOWN} uninstalls it; volume claims and Grafana's password it keeps but for "
            "--volumes, definitions but for --crds"
        )
    return f"{_DOWN} removes it"


def _wanted(options: Options, image: str) -> Wanted:
    """A new cluster of kind, its nodes made from this image."""
    return Wanted(options.name, options.nodes or Wanted.nodes, image)


def _install(
    options: Options,
    cluster: Cluster,
    image: str,
    bundle: Archive | None,
    phases: dict[str, float],
    tell: Tell,
) -> RolledOut:
    asked = meant.of(options, cluster, image, bundle)
    described, given, choice = asked.stack, asked.given, asked.choice
    if choice and asked.is_there(cluster):
        with timed(phases, "proof", tell):  # of the one before it may have failed
            proved = proof.prove(cluster, described, shows=choice.asked)
        return RolledOut(cluster, False, phases, proved, _shown(cluster, described, choice), choice)
    with timed(phases, "cluster checks", tell):
        preflight.require(preflight.cluster(cluster, platform.machine()))
        preflight.require(storage.checks(cluster, asked.volumes))
        if options.pull_secret:
            sources.require_pull_secret(cluster, options.pull_secret)
    if options.target == "kind":
        with timed(phases, "images", tell):
            own = Kind(options.name, chosen.home(options.name))
            sources.load(own, bundle, values.images(given), tell)
    with removed_if_new(cluster):
        with timed(phases, "node checks", tell):
            checked = [*node_check.COLLECTORS, *values.collectors(described)]
            node_check.require_admitted(cluster, given["image"])
            node_check.require(cluster, given["image"], checked, tell, options.pull_secret)
        if choice is None:
            with timed(phases, "dashboards", tell):
                tried = given["components"][dashboards.GRAFANA]
                choice = dashboards.tried(cluster, tried, options.pull_secret)
                tell(choice.told)
            described, given = meant.described(
                asked.options, cluster.context, image, asked.volumes, choice, asked.secret
            )
        with timed(phases, INSTALLED, tell):
            helm.settle(cluster)
            helm.install(cluster, given)
    with timed(phases, "proof", tell):
        proved = proof.prove(cluster, described, shows=choice.asked)
    return RolledOut(cluster, True, phases, proved, _shown(cluster, described, choice), choice)


def _shown(cluster: Cluster, described: Stack, choice: Choice) -> dict[str, str]:
    if choice is external.DASHBOARDS:
        return {}
    names = [*described.keeps.values(), *([dashboards.GRAFANA] if choice.taken else [])]
    return pages.commands(cluster, {name: _page(described, name) for name in names})


@contextlib.contextmanager
def removed_if_new(cluster: Cluster, purpose: str = namespaces.STACK) -> Iterator[None]:
    """Our namespace; one that was made for this goes again if what is done in it fails."""
    is_new = namespaces.make(cluster, "--namespace", purpose)
    try:
        yield
    except BaseException:
        if is_new:
            with contextlib.suppress(CommandError):
                cluster.run("delete", "namespace", cluster.namespace, "--wait=false")
        raise


def plan(options: Options) -> dict[str, Any]:
    """What `up` would make, its images and where each is from, which programs it lacks.

    Of a cluster that is there `standing` says what of it is there, see that module.

    It changes nothing.
    """
    chosen.check(options)
    made: dict[str, Any] = {"target": options.target, "namespace": options.namespace}
    carried = sources.carried(options)
    there, unasked = standing.found(options, namespaces.STACK)
    if options.target == "kind":
        made["cluster"] = standing.configuration(options, there)
    if there is None:
        volumes = storage.wanted(options.storage, options.storage_class, None)
        choice = meant.choice(options, None, carried)
        new = meant.settled(options, None, carried)
        stack, given = meant.described(new, options.name, images.name(), volumes, choice)
    else:
        asked = meant.of(options, there, images.name(), carried)
        volumes, choice = dict(asked.volumes), asked.choice
        stack, given = asked.stack, asked.given
        is_new, is_there = asked.now is None, asked.is_there(there)
        made["standing"] = standing.stack(is_new=is_new, is_there=is_there)
    made["dashboards"] = choice.told if choice else UNSETTLED
    made["keeps"] = {} if options.external else dict(stack.keeps)
    if "agents" in given:
        made["agents"] = given["agents"]
    if options.external:
        made["external"] = given["external"]
    if volumes:
        made["volumes"] = {"of": storage.of(given["components"]), **volumes}
    made["images"] = sources.told(options, carried, values.images(given))
    checks = [*preflight.tools(chosen.tools(options)), *unasked]
    return made | {"checks": [vars(check) for check in checks]}


def down(options: Options, tell: Tell) -> list[str]:
    """Remove what `up` made: kind's cluster, or in one of another's our namespace and no more."""
    chosen.check(options)
    with chosen.alone(options):
        if options.target == "kind":
            own = Kind(options.name, chosen.home(options.name))
            if not own.home.exists():
                return []
            own.delete()
            return [f"The cluster {options.name} was deleted."]
        cluster = chosen.existing(options)
        is_there = not namespaces.require(cluster, "--namespace")  # a release may be another's, too
        done = ["The release was uninstalled."] if is_there and helm.remove(cluster) else []
        done += _widely_removed(cluster)
        if is_there:
            tell(f"waiting until the namespace {cluster.namespace} is gone")
            cluster.run("delete", "namespace", cluster.namespace, "--wait", seconds=300.0)
            done.append(f"The namespace {cluster.namespace} was deleted.")
        return done


def _widely_removed(cluster: Cluster) -> list[str]:
    """Delete what helm did not, as of a release that went with its namespace."""
    try:
        found = wide.of(cluster, [helm.RELEASE], wide.ROLES)
    except CommandError as error:
        return [f"Whether it left roles of the whole cluster could not be seen: {error.why}"]
    for each in found:
        wide.delete(cluster, each)
    return [f"{wide.called(each)} was deleted." for each in found]


def left(options: Options) -> list[str]:
    """What `down` left behind, in sentences; none where all is gone."""
    if options.target == "kind":
        return list(Kind(options.name, chosen.home(options.name)).left())
    cluster = chosen.existing(options)
    found = cluster.get("namespace", cluster.namespace)
    kinds = "all,configmaps,secrets,serviceaccounts,networkpolicies,persistentvolumeclaims"
    found += cluster.get(kinds, f"--selector={OURS}")
    found += wide.of(cluster, [helm.RELEASE], wide.ROLES)
    return [f"{wide.called(each)} is there." for each in found]


def pages_of(options: Options) -> Pages:
    """Each page that a person may look at; some need not be there."""
    described, known = values.stack(""), catalog.known()
    kept = [name for name, each in known.items() if each.signal and each.image]
    names = [*described.keeps.values(), *kept, dashboards.GRAFANA]
    return {name: _page(described, name) for name in dict.fromkeys(names)}


def _page(described: Stack, name: str) -> Page:
    """That of a component."""
    component, port = catalog.known()[name], described.port(name, "http")
    found = Page(component.title, name, port, port, PATHS.get(name, "/"))
    if name != dashboards.GRAFANA:
        return replace(found, added=keepers.option(component))
    secret = dashboards.GRAFANA, GRAFANA_PASSWORD
    return replace(found, user=USER, secret=secret, added="--dashboards grafana")


@contextlib.contextmanager
def timed(phases: dict[str, float], name: str, tell: Tell) -> Iterator[None]:
    """Tell of a phase, and keep how many seconds it took."""
    tell(f"{name} ...")
    began = time.monotonic()
    yield
    phases[name] = time.monotonic() - began
