"""Clusters that kind makes on this machine, for a roll-out: creates, completes and deletes them."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CommandError, ComponentError, InputError, NeedError
from harness.linux import processes
from harness.targets.kubernetes import images, node_mounts, registry
from harness.targets.kubernetes.kubectl import Cluster

CREATE_SECONDS = 600
_NETWORK = "kind"
_LABEL = "label=io.x-k8s.kind.cluster="

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What a person decides about a new cluster; `image` of its nodes, empty for kind's own."""

    name: str = "harness"
    nodes: int = 3
    image: str = ""


class Kind:
    """One cluster of kind, its kubeconfig in `home`; what is noted there says whose it is."""

    def __init__(self, name: str, home: Path) -> None:
        self.name, self.home = name, home
        self.kubeconfig = home / "kubeconfig"

    @property
    def context(self) -> str:
        """What kind calls it in the kubeconfig."""
        return f"kind-{self.name}"

    @property
    def is_whole(self) -> bool:
        """Whether it was made by us, to the end."""
        return (self.home / "created.json").exists() and self.exists()

    def exists(self) -> bool:
        """Whether kind knows a cluster of this name."""
        done = processes.run(["kind", "get", "clusters"], timeout=60)
        return self.name in done.stdout.split()

    def create(self, wanted: Wanted, tell: Tell, *, keep: bool = False) -> None:
        """Make it; of one that is not finished all is deleted again, unless it is to be kept.

        NeedError if one of this name is there that is not ours.
        """
        if self.exists():
            self.require_ours()
            tell(f"{self.name} was left half made; it is made anew")
            self.delete()
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "creating").write_text("" if _has_network() else _NETWORK)
        try:
            self._create(wanted)
            self.complete()
        except BaseException as error:
            if not keep:
                self.delete()
            if isinstance(error, CommandError):
                raise _not_made(error, self, keep) from error
            raise
        noted = {"nodes": wanted.nodes, "image": wanted.image}
        (self.home / "created.json").write_text(json.dumps(noted))

    def require_ours(self) -> None:
        """NeedError about one that is there, if we did not begin to make it."""
        if not (self.home / "creating").exists():
            raise NeedError(
                f"There is a cluster of kind called {self.name} that `harness` did not make.",
                next_step=f"Take another name (--name), or delete it: kind delete cluster "
                f"--name {self.name}.",
            )

    @property
    def noted(self) -> Wanted:
        """What it was made of, if it is whole; the image is empty for kind's own, or not noted."""
        made = json.loads((self.home / "created.json").read_text())
        return Wanted(self.name, made["nodes"], made.get("image", ""))

    def require_same(self, nodes: int | None, image: str) -> None:
        """InputError if it was made of another number of nodes, or another image, than is said."""
        made = json.loads((self.home / "created.json").read_text())
        other = []
        if nodes not in (None, made["nodes"]):
            other.append(f"--nodes {nodes} (it was made of {made['nodes']})")
        was = registry.plain(made.get("image", image))  # one of before does not say
        if image and registry.plain(image) != was:
            other.append(f"--image {image} (it was made of {was or 'what kind takes by itself'})")
        if other:
            raise InputError(
                f"The cluster {self.name} is there already, without {' and '.join(other)}.",
                "kind changes no nodes of a cluster that it made.",
                f"Leave it out; take another --name; or give this one up: harness down --target "
                f"kind --name {self.name}.",
            )

    def complete(self) -> None:
        """Mount in each node what collectors look for, now and whenever it starts."""
        node_mounts.put(self.nodes())

    def nodes(self) -> list[str]:
        """Its nodes' containers."""
        done = processes.run(["kind", "get", "nodes", "--name", self.name], timeout=60)
        return done.stdout.split()

    def load(self, wanted: list[str], tell: Tell) -> list[str]:
        """Put into the nodes what the local docker has of these images; those that it had."""
        had = [image for image in wanted if images.present(image)]
        missing = [image for image in had if self.nodes_without([image])]
        if missing:
            tell(f"loading {len(missing)} images into the nodes")
            argv = ["kind", "load", "docker-image", "--name", self.name, *missing]
            processes.run(argv, timeout=CREATE_SECONDS)
        return had

    def nodes_without(self, wanted: Sequence[str]) -> list[str]:
        """Its nodes that lack one of these images."""
        return [node for node in self.nodes() if not _has(node, wanted)]

    def taking(self, node: str) -> list[str]:
        """The command that takes an archive of images into a node, from its stdin."""
        argv = ["kind", "load", "image-archive", "--name", self.name, "--nodes", node]
        return [*argv, "/dev/stdin"]

    def delete(self) -> None:
        """Delete the cluster with all that is in it, its kubeconfig, and docker's network for it.

        That is shared by all clusters of kind: it stays if it was there before, or is in use.
        """
        note = self.home / "creating"
        made = note.read_text() if note.exists() else ""
        argv = ["kind", "delete", "cluster", "--name", self.name]
        processes.run([*argv, "--kubeconfig", str(self.kubeconfig)], timeout=300)
        if made:
            processes.run(["docker", "network", "rm", made], check=False)
        shutil.rmtree(self.home, ignore_errors=True)
        for parent in (self.home.parent, self.home.parent.parent):
            with contextlib.suppress(OSError):
                parent.rmdir()

    def left(self) -> Iterator[str]:
        """What is still there of it, in sentences."""
        if self.exists():
            yield f"The cluster {self.name} of kind is there."
        for what in ("container", "volume"):
            argv = ["docker", what, "ls", "--quiet", "--filter", f"{_LABEL}{self.name}"]
            argv += ["--all"] if what == "container" else []
            if found := processes.run(argv).stdout.split():
                yield f"Docker has {len(found)} {what}s of it."
        if self.home.exists():
            yield f"{self.home} is there."

    def _create(self, wanted: Wanted) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", prefix="harness-kind-") as file:
            json.dump(self.configuration(wanted), file)  # which is YAML as well
            file.flush()
            argv = ["kind", "create", "cluster", "--name", self.name, "--config", file.name]
            argv += ["--kubeconfig", str(self.kubeconfig), "--retain", "--wait", "180s"]
            argv += ["--image", wanted.image] if wanted.image else []
            _create(argv)

    def configuration(self, wanted: Wanted) -> dict[str, object]:
        """kind's configuration: one control plane, the other nodes workers."""
        workers = [{"role": "worker"} for _ in range(wanted.nodes - 1)]
        return {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "name": self.name,
            "nodes": [{"role": "control-plane"}, *workers],
        }


def cluster(kind: Kind, namespace: str) -> Cluster:
    """How kubectl reaches it."""
    return Cluster(kind.context, namespace, kind.kubeconfig)


def _create(argv: list[str]) -> None:
    """Run it so that it dies with this process: it would go on with the next one's nodes."""
    with tempfile.TemporaryDirectory(prefix="harness-kind-") as folder:
        log = Path(folder) / "kind.log"
        process = processes.spawn(argv, log=log)
        try:
            code = processes.ended(process, CREATE_SECONDS)
        finally:
            processes.stop(process)
        if code:
            said = " ".join(processes.last_words(log, 8))
            raise CommandError("`kind create cluster` failed.", said, "Its words say why.")


def _has(node: str, wanted: Sequence[str]) -> bool:
    argv = ["docker", "exec", node, "ctr", "--namespace=k8s.io", "images", "ls", "--quiet"]
    there = set(map(registry.short, processes.run(argv).stdout.split()))
    return all(registry.short(image) in there for image in wanted)


def _has_network() -> bool:
    argv = ["docker", "network", "inspect", _NETWORK]
    return processes.run(argv, check=False).returncode == 0


def _not_made(error: CommandError, kind: Kind, keep: bool) -> ComponentError:
    kept = (
        f"It is kept: kind export logs --name {kind.name} has its logs; harness down --target kind "
        "deletes it."
        if keep
        else "It was deleted again; --keep keeps it, to look into it."
    )
    return ComponentError(f"kind could not make the cluster {kind.name}.", error.why, kept)
