"""Takes the production profile out of a cluster again, and says what is left; for `profiles`.

Volume claims with the namespace, and custom resource definitions, stay unless they are named.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.targets.kubernetes import (
    charts,
    chosen,
    helm,
    namespaces,
    needs,
    production,
    rollout,
    wide,
)
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.rollout import Tell

_GROUP = ".monitoring.coreos.com"


def down(options: Options, tell: Tell) -> list[str]:
    """Uninstall the releases, the last one first; what was done and kept, in sentences.

    Of kind the whole cluster is deleted.
    """
    chosen.check(options)
    if options.target == "kind":
        return rollout.down(options, tell)
    with chosen.alone(options):
        cluster = chosen.existing(options)
        since = namespaces.since(cluster, namespaces.PRODUCTION)  # it may be gone afterwards
        done = list(_uninstalled(cluster, tell)) if production.is_ours(cluster) else []
        if production.is_ours(cluster):
            done += _namespace(cluster, tell) if options.volumes else _kept(cluster)
        if options.crds:
            done += _definitions(cluster, since)
        elif options.volumes and since:
            done += _unclaimed(cluster, since)
        return done


def left(options: Options) -> list[str]:
    """What is there of it, in sentences; none where all is gone."""
    if options.target == "kind":
        return rollout.left(options)
    cluster = chosen.existing(options)
    there = [each for each in _releases() if helm.state(cluster, each)]
    said = [f"The release {each} is there." for each in there]
    said += [f"{wide.called(each)} is there." for each in wide.of(cluster, _releases())]
    if production.is_ours(cluster):
        said += [f"The volume claim {each} is there." for each in _claims(cluster)]
        said += [f"The namespace {cluster.namespace} is there."]
    for each in _leaves():
        if cluster.run("get", *each, "--ignore-not-found", "--output=name").stdout.strip():
            said.append(f"{each[0]} is there ({each[1]}).")
    since = namespaces.since(cluster, namespaces.PRODUCTION)
    if since or (options.volumes and not options.crds):  # else others', or told
        said += [f"The definition {each} is there." for each in _defined(cluster, since)]
    return said


def _uninstalled(cluster: Cluster, tell: Tell) -> Iterator[str]:
    for each in reversed(charts.known()):
        tell(f"uninstalling {each.release} ...")
        if helm.remove(cluster, each.release):
            yield f"The release {each.release} was uninstalled."
        for words in each.leaves:
            cluster.run("delete", *words.split(), "--ignore-not-found")


def _namespace(cluster: Cluster, tell: Tell) -> list[str]:
    claims = _claims(cluster)
    tell(f"waiting until the namespace {cluster.namespace} is gone")
    cluster.run("delete", "namespace", cluster.namespace, "--wait", seconds=300.0)
    return [
        f"The namespace {cluster.namespace} was deleted, with {len(claims)} volume claims: whether "
        "their data are kept is what their StorageClass says."
    ]


def _kept(cluster: Cluster) -> list[str]:
    return [
        f"Kept: the namespace {cluster.namespace} with {len(_claims(cluster))} volume claims and "
        "Grafana's password; `harness down` with --volumes deletes them."
    ]


def _definitions(cluster: Cluster, since: str) -> list[str]:
    """Delete those of which nobody has an object and no operator needs: they take objects along.

    `since` is when our namespace was made, empty if it is not there. Definitions that are older
    were there before: they are another's, and stay.
    """
    if not since:
        return _unclaimed(cluster, since)
    other = needs.alone(cluster)
    if not other.ok:
        return [
            f"Kept: the definitions of *{_GROUP}; a Prometheus operator needs them: {other.found}."
        ]
    done = []
    for name in _defined(cluster, since):
        if used := cluster.get(name, "--all-namespaces"):
            where = sorted({each["metadata"].get("namespace", "") for each in used})
            done.append(f"Kept: {name}, of which objects are in {', '.join(where)}.")
        else:
            cluster.run("delete", "customresourcedefinition", name, "--wait")
            done.append(f"The definition {name} was deleted.")
    return done


def _unclaimed(cluster: Cluster, since: str) -> list[str]:
    """What is said of them where there is no namespace, any more, that tells whose they are."""
    if not (found := _defined(cluster, since)):
        return []
    return [
        f"Kept: {', '.join(found)}. Whether they are ours the age of the namespace "
        f"{cluster.namespace} tells, which is not there; {cluster.shown} delete "
        "customresourcedefinition NAME deletes one."
    ]


def _defined(cluster: Cluster, since: str) -> list[str]:
    """Those that are not older than that; all where nothing is said."""
    columns = "--output=custom-columns=NAME:.metadata.name,MADE:.metadata.creationTimestamp"
    said = cluster.run("get", "customresourcedefinitions", "--no-headers", columns).stdout
    found = [line.split() for line in said.splitlines()]
    return [name for name, made in found if name.endswith(_GROUP) and made >= since]


def _claims(cluster: Cluster) -> list[str]:
    return [each["metadata"]["name"] for each in cluster.get("persistentvolumeclaims")]


def _releases() -> list[str]:
    return [each.release for each in charts.known()]


def _leaves() -> list[list[str]]:
    return [words.split() for each in charts.known() for words in each.leaves]
