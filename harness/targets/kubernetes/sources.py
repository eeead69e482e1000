"""Where a roll-out's images come from: a bundle, a registry of one's own, the local docker.

`rollout` and `target` ask it; `cli` has bundles written and images pushed by it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import NeedError
from harness.targets.kubernetes import (
    archive,
    chart_bundle,
    chosen,
    dashboards,
    images,
    keepers,
    namespaces,
    packing,
    registry,
    values,
)
from harness.targets.kubernetes.archive import Archive, Content
from harness.targets.kubernetes.chart_bundle import Given
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.images import Nodes
from harness.targets.kubernetes.keepers import Keepers
from harness.targets.kubernetes.kubectl import Cluster, labels

_PULL_TYPES = ("kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg")

Tell = Callable[[str], None]


def bundle(
    file: Path,
    tell: Tell,
    *,
    node_image: str = "",
    prefix: str = "",
    asked: str = "",
    wanted: Keepers | None = None,
    stays: Given | None = None,
) -> Archive:
    """Write one file with all that `up` needs; what it holds. Below `prefix` images are pulled.

    `asked` are the dashboards; if nothing is, Grafana's image is left out where it cannot be had.
    `wanted` is who keeps a signal, where that is said. With what `stays` it is of the profile
    production.
    """
    if prefix:
        registry.check(prefix)
    keepers.check(wanted or {})
    chosen.require(["docker", *(["helm"] if stays else [])])

    def content() -> Content:
        if stays is not None:
            return chart_bundle.content(stays, tell)
        return packing.trial(asked, prefix, tell, wanted or {})

    return packing.write(file, tell, content, node_image=node_image, prefix=prefix)


def push(
    prefix: str,
    file: Path | None,
    tell: Tell,
    asked: str = "",
    keeping: Keepers | None = None,
) -> list[str]:
    """Push all images of a roll-out to a registry, those of a bundle if there is one; their names.

    Without a bundle what the local docker lacks is built or pulled; `asked` are the dashboards,
    `keeping` is who keeps a signal, where that is said.
    """
    keepers.check(keeping or {})
    registry.check(prefix)
    chosen.require(["docker"])
    if file is None:
        grafana = dashboards.gathered(asked, "", tell)
        keeps = keepers.settled(keeping or {})
        wanted = values.images(archive.own_values(grafana=grafana, keeps=keeps))
        registry.gather(wanted, tell)
    else:
        carried = archive.read(file)
        carried.load(tell)
        wanted = carried.names
    return registry.push(wanted, prefix, tell)


def carried(options: Options) -> Archive | None:
    """The bundle that is named, if one is; an error unless it is whole, and of this very code.

    NeedError if it lacks who is to keep a signal, before a cluster is made for it.
    """
    if options.bundle is None:
        return None
    found = archive.read(options.bundle)
    found.require(options.profile)
    keepers.require_carried(options.keepers, found.names)
    return found


def node_image(options: Options, given: Archive | None, tell: Tell) -> str:
    """The image of a new cluster's nodes, empty for kind's own; out of a bundle docker gets it."""
    if given is None:
        return options.image
    named = given.node_image(options.image)
    given.load_node_image(tell)
    return named


def load(own: Nodes, given: Archive | None, wanted: list[str], tell: Tell) -> None:
    """Put images into nodes of ours: a bundle's, or what the local docker has, ours built first."""
    if given is not None:
        given.load_into(own, tell)
        return
    images.build(tell)
    own.load(wanted, tell)


def told(options: Options, given: Archive | None, wanted: Sequence[str]) -> dict[str, str]:
    """For a plan: each image by the name that it is asked for, and where it comes from."""
    found = {image: _source(options, image) for image in wanted}
    if options.target == "kind":
        is_new = not chosen.home(options.name).exists()
        node = given.node_image(options.image) if given and is_new else options.image
        if node:
            found[node] = "for kind's nodes" + (f", from {options.bundle}" if given else "")
    return found


def carry_pull_secret(cluster: Cluster, given: str) -> None:
    """Copy the Secret NAMESPACE/NAME into our namespace, whose pods then pull with it.

    It goes with the namespace. NeedError if there is none to pull with.
    """
    namespace, _, name = given.rpartition("/")
    there = replace(cluster, namespace=namespace)
    if said := _amiss(there, name):
        raise NeedError(
            f"There is no Secret {name} to pull images with in the namespace {namespace}.",
            said,
            f"Make it: {there.shown} create secret docker-registry {name} --docker-server=...",
        )
    (secret,) = there.get("secret", name)
    metadata = {"name": name, "labels": labels()}
    kept = {key: secret[key] for key in ("apiVersion", "kind", "type", "data")}
    cluster.apply({**kept, "metadata": metadata})
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    cluster.apply({**account, "imagePullSecrets": [{"name": name}]})


def require_pull_secret(cluster: Cluster, name: str) -> None:
    """NeedError unless nodes can pull with this Secret of our namespace."""
    said = _amiss(cluster, name)
    if not said:
        return
    made = [
        *namespaces.by_hand(cluster),
        f"{cluster.shown} create secret docker-registry {name} --docker-server=...",
    ]
    raise NeedError(
        f"There is no Secret {name} to pull images with in the namespace {cluster.namespace}.",
        said,
        f"Make it: {'; '.join(made)}.",
    )


def _amiss(cluster: Cluster, name: str) -> str:
    """Why nodes cannot pull with this Secret; nothing if they can."""
    words = ("get", f"secret/{name}", "--output=jsonpath={.type}")
    done = cluster.run(*words, check=False)
    if not done.returncode and done.stdout.strip() in _PULL_TYPES:
        return ""
    return " ".join(done.stderr.split())[-300:] or f"It is of the type {done.stdout.strip()}."


def _source(options: Options, image: str) -> str:
    own = images.name()
    if options.target == "existing" or options.registry:
        secret = f" with the Secret {options.pull_secret}" if options.pull_secret else ""
        return "has to be on the nodes" if image == own else f"pulled by the nodes{secret}"
    if options.bundle:
        return f"from {options.bundle}"
    if shutil.which("docker") and images.present(image):
        return "from the local docker"
    return "built here" if image == own else "pulled by the nodes"
