"""Which cluster a person means, and the one of kind that is noted; for `rollout`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import InputError, NeedError
from harness.targets.kubernetes import (
    bare,
    dashboards,
    external,
    keepers,
    kind,
    preflight,
    registry,
    selectors,
    storage,
)
from harness.targets.kubernetes.bare import Machines
from harness.targets.kubernetes.external import External
from harness.targets.kubernetes.keepers import Keepers
from harness.targets.kubernetes.kind import Kind
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.selectors import EVERYTHING, Selectors

NAMESPACE = "harness"
_NAME = re.compile("[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True)
class Options:
    """What a person says of a roll-out; `target` is `kind`, `existing` or `vm`.

    `nodes` are those of a cluster of kind; None: three of a new one, as many as one has. With
    `bundle` kind is given images from that file alone; below `registry` an existing cluster's nodes
    find them. `storage` is the size of each component's volume, of `storage_class`, and data are
    kept for `retention_hours`; empty: as they are there already, else none and a day. `charts`,
    `values`, `crds` and `volumes` go with the profile `production`: a folder of charts' archives,
    RELEASE=FILE of further values, and what `down` removes besides. `dashboards` are `grafana` or
    `none`; empty: as they can be had. `keepers` say who keeps a signal; of others it is as there
    already, else as ever. `otlp` and what follows it are of backends of a person's own, see
    `External`.
    """

    target: str
    name: str = "harness"
    nodes: int | None = None
    image: str = ""
    keep: bool = False
    kubeconfig: str = ""
    context: str = ""
    namespace: str = NAMESPACE
    retention_hours: int | None = None
    registry: str = ""
    bundle: Path | None = None
    pull_secret: str = ""
    storage: str = ""
    storage_class: str = ""
    profile: str = "poc"
    charts: str = ""
    values: tuple[str, ...] = ()
    crds: bool = False
    volumes: bool = False
    dashboards: str = ""
    keepers: Keepers = field(default_factory=dict)
    machines: Machines = bare.NONE
    selectors: Selectors = EVERYTHING
    otlp: str = ""
    otlp_secret: str = ""
    query_traces: str = ""
    query_metrics: str = ""
    query_logs: str = ""

    @property
    def external(self) -> External:
        """Backends of a person's own."""
        return External(
            self.otlp, self.otlp_secret, self.query_traces, self.query_metrics, self.query_logs
        )


def home(name: str, target: str = "kind") -> Path:
    """What is noted of a cluster that we made: $XDG_STATE_HOME/harness/<target>/<name>."""
    base = os.environ.get("XDG_STATE_HOME", "")
    state = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state"
    return state / "harness" / target / name


def check(options: Options) -> None:
    """InputError if the options make no sense."""
    if options.target not in ("kind", "existing", "vm"):
        raise InputError(
            f"There is no target {options.target!r}.",
            next_step="Take local, kind, existing or vm.",
        )
    if options.nodes is not None and options.nodes < 1:
        raise InputError(f"{options.nodes} nodes are none.", next_step="Take --nodes 1 or more.")
    if options.registry:
        registry.check(options.registry)
    storage.check(options.storage, options.storage_class)
    selectors.values(options.selectors)
    dashboards.check(options.dashboards)
    keepers.check(options.keepers)
    external.check(options.external, _of_backends(options))
    _check_secret(options)
    if options.target == "kind":
        _check_kind(options)
    elif options.target == "vm":
        _check_vm(options)
    else:
        _check_existing(options)


def tools(options: Options) -> list[str]:
    """The programs that are needed."""
    if options.target == "kind":
        return ["docker", "kind", "helm", "kubectl"]
    made = options.machines.create and options.machines.maker == "containers"
    loaded = options.target == "vm" and not options.registry and not options.bundle
    return [*(["docker"] if made or loaded else []), "helm", "kubectl"]


def require_tools(options: Options) -> None:
    """NeedError if one of them is missing."""
    require(tools(options))


def require(programs: Sequence[str]) -> None:
    """NeedError if one of these programs is missing."""
    bad = [check for check in preflight.tools(programs) if not check.ok]
    if bad:
        raise NeedError(
            f"Not met: {'; '.join(each.what for each in bad)}.",
            " ".join(each.found for each in bad),
            " ".join(dict.fromkeys(each.hint for each in bad)),
        )


def existing(options: Options, programs: Sequence[str] = ()) -> Cluster:
    """The cluster of a kubeconfig and a context; `programs` are needed, or those of a roll-out."""
    require(programs or tools(options))
    context = preflight.context(options.kubeconfig, options.context)
    file = Path(options.kubeconfig) if options.kubeconfig else None
    return Cluster(context, options.namespace, file)


def on_machines(options: Options) -> Options:
    """The same of a cluster that stands on machines, as an existing one; NeedError without one."""
    file = home(options.name, "vm") / "kubeconfig"
    if not file.exists():
        raise NeedError(
            f"There is no cluster {options.name} that `harness up --target vm` made.",
            next_step="Make it: harness up --target vm --inventory FILE, or --create 3.",
        )
    charts = options.bundle if options.profile == "production" else None  # they go on from it
    return replace(
        options, target="existing", kubeconfig=str(file), context="", bundle=charts,
        image="", keep=False, machines=Machines(),
    )  # fmt: skip


def found(options: Options, programs: Sequence[str] = ()) -> Cluster:
    """The cluster that is rolled out to; NeedError if `up` made none."""
    check(options)
    if options.target == "vm":
        options = on_machines(options)
    if options.target == "existing":
        return existing(options, programs)
    own = Kind(options.name, home(options.name))
    if not own.home.exists() or not own.is_whole:
        raise NeedError(
            f"There is no cluster {options.name} that `harness up` made.",
            next_step="Make it: harness up --target kind.",
        )
    return kind.cluster(own, options.namespace)


@contextlib.contextmanager
def alone(options: Options) -> Iterator[None]:
    """NeedError if another `up` or `down` of the same cluster runs on this machine."""
    folder = home(options.name, options.target).parent
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{options.target}-{options.name}.lock"
    try:
        with file.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise NeedError(
                    "Another `harness up` or `harness down` of this cluster is at work.",
                    next_step="Wait until it has ended.",
                ) from None
            try:
                yield
            finally:
                file.unlink(missing_ok=True)
    finally:
        for parent in (folder, folder.parent):
            with contextlib.suppress(OSError):
                parent.rmdir()


def _of_backends(options: Options) -> dict[str, object]:
    """What was said of backends that would be installed, by the names of the options."""
    return {
        "storage": options.storage,
        "storage-class": options.storage_class,
        "dashboards": options.dashboards == dashboards.GRAFANA,
        "retention": options.retention_hours,
        **{said: name != keepers.NONE for said, name in keepers.said(options.keepers).items()},
    }


def _lacks_registry(options: Options) -> bool:
    """Whether its nodes get nothing out of a bundle; one of production still has the charts."""
    of_images_alone = options.bundle and options.profile != "production"
    return bool(of_images_alone and options.target == "existing" and not options.registry)


def _check_secret(options: Options) -> None:
    """InputError for a Secret of a cluster that would be made, and deleted for want of it."""
    makes = options.target == "kind" or options.machines.create
    if not options.otlp_secret or not makes or options.keep:
        return
    if not home(options.name, options.target).exists():
        raise InputError(
            f"--otlp-secret {options.otlp_secret} is of a cluster that is not there yet.",
            "It would be made and, the Secret not being in it, deleted again.",
            "Say --keep: then it stays, you make the Secret in it, and run this again.",
        )


def _refuse(given: Mapping[str, object], target: str, why: str) -> None:
    """InputError if one of these was given, which this target would not look at."""
    if named := [f"--{name}" for name, value in given.items() if value]:
        what = f"{' and '.join(named)} does not go with --target {target}."
        raise InputError(what, why, "Leave it out.")


def _check_existing(options: Options) -> None:
    made = {"nodes": options.nodes, "image": options.image, "keep": options.keep}
    _refuse(made, "existing", "It is of a cluster or of machines that are made.")
    if _lacks_registry(options):
        raise InputError(
            "A bundle by itself brings no image to the nodes of a cluster that is there.",
            "They pull from a registry, or have the images already.",
            f"Push them: harness images push --registry PREFIX --bundle {options.bundle}; and name "
            "it here: --registry PREFIX. If every node has them, leave --bundle out.",
        )


def _check_kind(options: Options) -> None:
    elsewhere = {"context": options.context, "kubeconfig": options.kubeconfig}
    _refuse(elsewhere, "kind", "Its cluster is said by --name, another one by --target existing.")
    for name, given in (("registry", options.registry), ("pull-secret", options.pull_secret)):
        if given:
            raise InputError(
                f"--{name} does not go with --target kind.",
                "The nodes that kind makes are given images by this machine.",
                "To take them from a registry of your own: harness bundle FILE --registry PREFIX, "
                "then harness up --target kind --bundle FILE.",
            )


def _check_vm(options: Options) -> None:
    asked = options.machines
    if not _NAME.fullmatch(options.name):
        raise InputError(
            f"{options.name!r} is no name for a cluster.",
            "Machines are called by it: small letters, digits, dashes, 40 of them at most.",
            "Take another --name.",
        )
    elsewhere: Mapping[str, object] = {"context": options.context, "kubeconfig": options.kubeconfig,
                                    "nodes": options.nodes}  # fmt: skip
    said = "Its machines are said by --inventory or --create, its cluster by --name."
    _refuse(elsewhere, "vm", said)
    bare.check(asked, options.image)
