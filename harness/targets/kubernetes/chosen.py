"""Which cluster a person means, and the one of kind that is noted; for `rollout`."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError, NeedError
from harness.targets.kubernetes import kind, preflight, registry, storage
from harness.targets.kubernetes.kind import Kind
from harness.targets.kubernetes.kubectl import Cluster

NAMESPACE = "harness"


@dataclass(frozen=True)
class Options:
    """What a person says of a roll-out; `target` is `kind` or `existing`.

    With `bundle` kind is given images from that file alone; below `registry` an existing cluster's
    nodes find them. `storage` is the size of each component's volume, of `storage_class`; empty:
    those that are there already, else none. The last four go with the profile `production`: a
    folder of charts' archives, RELEASE=FILE of further values, and what `down` removes besides.
    """

    target: str
    name: str = "harness"
    nodes: int = 3
    image: str = ""
    keep: bool = False
    kubeconfig: str = ""
    context: str = ""
    namespace: str = NAMESPACE
    retention_hours: int = 24
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


def home(name: str) -> Path:
    """What is noted of a cluster that we made: $XDG_STATE_HOME/harness/kind/<name>."""
    base = os.environ.get("XDG_STATE_HOME", "")
    state = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state"
    return state / "harness" / "kind" / name


def check(options: Options) -> None:
    """InputError if the options make no sense."""
    if options.target not in ("kind", "existing"):
        raise InputError(
            f"There is no target {options.target!r}.",
            next_step="Take local, kind or existing.",
        )
    if options.nodes < 1:
        raise InputError(f"{options.nodes} nodes are none.", next_step="Take --nodes 1 or more.")
    if options.registry:
        registry.check(options.registry)
    storage.check(options.storage, options.storage_class)
    if options.target == "kind":
        _check_kind(options)
    elif options.bundle and not options.registry:
        raise InputError(
            "A bundle by itself brings no image to the nodes of a cluster that is there.",
            "They pull from a registry, or have the images already.",
            f"Push them: harness images push --registry PREFIX --bundle {options.bundle}; and name "
            "it here: --registry PREFIX. If every node has them, leave --bundle out.",
        )


def tools(options: Options) -> list[str]:
    """The programs that are needed."""
    return [*(("docker", "kind") if options.target == "kind" else ()), "helm", "kubectl"]


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


def found(options: Options, programs: Sequence[str] = ()) -> Cluster:
    """The cluster that is rolled out to; NeedError if `up` made none."""
    check(options)
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
    folder = home(options.name).parent
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


def _check_kind(options: Options) -> None:
    for name, given in (("registry", options.registry), ("pull-secret", options.pull_secret)):
        if given:
            raise InputError(
                f"--{name} does not go with --target kind.",
                "The nodes that kind makes are given images by this machine.",
                "To take them from a registry of your own: harness bundle FILE --registry PREFIX, "
                "then harness up --target kind --bundle FILE.",
            )
