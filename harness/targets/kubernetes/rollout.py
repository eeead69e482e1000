"""Rolls the stack out in a cluster, says how it is, removes it; `cli` calls it."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.errors import CommandError
from harness.stack import catalog
from harness.targets.kubernetes import (
    chosen,
    helm,
    images,
    kind,
    namespaces,
    node_check,
    pages,
    pods,
    preflight,
    proof,
    selectors,
    sources,
    storage,
    values,
    wide,
)
from harness.targets.kubernetes.archive import Archive
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kind import Kind, Wanted
from harness.targets.kubernetes.kubectl import OURS, Cluster
from harness.targets.kubernetes.pages import Page, Pages
from harness.targets.kubernetes.proof import Proved

Tell = Callable[[str], None]
PATHS = {"victorialogs": "/select/vmui/"}  # of pages that are not where a host's begin


@dataclass
class RolledOut:
    """What `up` did: seconds by phase, what the proof found, where the pages are."""

    cluster: Cluster
    changed: bool
    phases: dict[str, float] = field(default_factory=dict)
    proved: Proved = field(default_factory=Proved)
    pages: Mapping[str, str] = field(default_factory=dict)


Install = Callable[[Options, Cluster, str, Archive | None, dict[str, float], Tell], RolledOut]


def up(options: Options, tell: Tell, install: Install | None = None) -> RolledOut:
    """Make or take the cluster, install, prove; what this call made goes again if it fails.

    A second call with the same options, code and images changes nothing. `install` is another way
    to install and prove than the proof of concept's.
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
                own.create(Wanted(options.name, options.nodes, nodes), tell, keep=options.keep)
        else:
            own.complete()
        cluster = kind.cluster(own, options.namespace)
    else:
        cluster = chosen.existing(options)
    try:
        return install(options, cluster, image, bundle, phases, tell)
    except BaseException:
        if fresh and not options.keep:
            tell("the cluster that was made for it is deleted again; --keep keeps it")
            own.delete()
        raise


def _install(
    options: Options,
    cluster: Cluster,
    image: str,
    bundle: Archive | None,
    phases: dict[str, float],
    tell: Tell,
) -> RolledOut:
    described = values.stack(cluster.context, options.retention_hours)
    shown = pages.commands(cluster, pages_of(options))
    now = helm.state(cluster)
    volumes = storage.wanted(options.storage, options.storage_class, now)
    seen = selectors.values(options.selectors)
    given = values.values(described, image, options.registry, options.pull_secret, volumes, seen)
    deployed = now is not None and now["status"] == "deployed"
    same = now is not None and now["fingerprint"] == helm.fingerprint(given)
    if deployed and same and all(map(pods.is_ready, pods.ours(cluster))):
        return RolledOut(cluster, False, phases, pages=shown)
    with timed(phases, "cluster checks", tell):
        preflight.require(preflight.cluster(cluster, platform.machine()))
        preflight.require(storage.checks(cluster, volumes))
        if options.pull_secret:
            sources.require_pull_secret(cluster, options.pull_secret)
    if options.target == "kind":
        with timed(phases, "images", tell):
            own = Kind(options.name, chosen.home(options.name))
            sources.load(own, bundle, values.images(given), tell)
    with _removed_if_new(cluster):
        with timed(phases, "node checks", tell):
            checked = node_check.COLLECTORS
            node_check.require(cluster, given["image"], checked, tell, options.pull_secret)
        with timed(phases, "installation", tell):
            helm.settle(cluster)
            helm.install(cluster, given)
    with timed(phases, "proof", tell):
        proved = proof.prove(cluster, described)
    return RolledOut(cluster, True, phases, proved, shown)


@contextlib.contextmanager
def _removed_if_new(cluster: Cluster) -> Iterator[None]:
    """Our namespace; one that was made for this goes again if what is done in it fails."""
    is_new = namespaces.make(cluster, "--namespace")
    try:
        yield
    except BaseException:
        if is_new:
            with contextlib.suppress(CommandError):
                cluster.run("delete", "namespace", cluster.namespace, "--wait=false")
        raise


def plan(options: Options) -> dict[str, Any]:
    """What `up` would make, its images and where each is from, which programs it lacks.

    It changes nothing.
    """
    chosen.check(options)
    described = values.stack(options.name, options.retention_hours)
    own = Kind(options.name, chosen.home(options.name))
    made: dict[str, Any] = {"target": options.target, "namespace": options.namespace}
    if options.target == "kind":
        made["cluster"] = own.configuration(Wanted(options.name, options.nodes, options.image))
    volumes = storage.wanted(options.storage, options.storage_class, None)
    names = images.name(), options.registry, options.pull_secret
    given = values.values(described, *names, volumes, selectors.values(options.selectors))
    if "agents" in given:
        made["agents"] = given["agents"]
    if volumes:
        made["volumes"] = {"of": sorted(given["components"]), **volumes}
    made["images"] = sources.told(options, sources.carried(options), values.images(given))
    made["checks"] = [vars(check) for check in preflight.tools(chosen.tools(options))]
    return made


def down(options: Options, tell: Tell) -> list[str]:
    """Remove what `up` made: kind's cluster, or in one of another's our namespace and no more."""
    with chosen.alone(options):
        if options.target == "kind":
            own = Kind(options.name, chosen.home(options.name))
            if not own.home.exists():
                return []
            own.delete()
            return [f"The cluster {options.name} was deleted."]
        cluster = chosen.existing(options)
        done = ["The release was uninstalled."] if helm.remove(cluster) else []
        done += _widely_removed(cluster)
        if namespaces.is_ours(cluster):
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
    """Each page that a person may look at."""
    described = values.stack(options.name)
    found = {}
    for name in described.hosts:
        if name != "otelcol":
            port, path = described.port(name, "http"), PATHS.get(name, "/")
            found[name] = Page(catalog.known()[name].title, name, port, port, path)
    return found


@contextlib.contextmanager
def timed(phases: dict[str, float], name: str, tell: Tell) -> Iterator[None]:
    """Tell of a phase, and keep how many seconds it took."""
    tell(f"{name} ...")
    began = time.monotonic()
    yield
    phases[name] = time.monotonic() - began
