"""A node of a cluster as a target: the node side runs in a pod there, and its pipe is an exec."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

from harness.errors import (
    CommandError,
    ComponentError,
    HarnessError,
    InputError,
    NeedError,
    WorkloadError,
)
from harness.linux import processes
from harness.targets.base import Tell, answer, arguments
from harness.targets.channel import SaidChannel
from harness.targets.kubernetes import (
    chosen,
    daemonsets,
    images,
    namespaces,
    node_pod,
    options,
    preflight,
    registry,
    services,
    sources,
)
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kind import Kind
from harness.targets.kubernetes.kubectl import Cluster
from harness.wire.spec import Found, Spawn
from harness.wire.subject import Option

ANSWER_SECONDS = 660.0
KEYS = {
    "kind": ("name", "node", "namespace"),
    "existing": ("context", "kubeconfig", "node", "namespace", "registry", "pull_secret"),
    "vm": ("name", "node", "namespace", "registry"),
}
_UNSCHEDULED = {"NoSchedule", "NoExecute"}


class InCluster:
    """A node of a cluster that kind made, or of an existing one.

    `given` is KEY=VALUE,...: `node` (else the first worker by name), `namespace` (of what is made
    for the evaluation); `name` of kind's cluster; `context` and `kubeconfig` of an existing one,
    the `registry` below which its nodes find our image, and the `pull_secret` (NAMESPACE/NAME)
    that they need for that.
    """

    def __init__(self, kind: str, given: str) -> None:
        self.name = f"{kind},{given}" if given else kind
        said = {"namespace": namespaces.FOR_EVALUATION, **_read(kind, given)}
        self._node = said.pop("node", "")
        self._options = Options(
            kind, said.get("name", Options.name), kubeconfig=said.get("kubeconfig", ""),
            context=said.get("context", ""), namespace=said["namespace"],
            registry=said.get("registry", ""), pull_secret=said.get("pull_secret", ""),
        )  # fmt: skip
        self._pod, self._moved, self._turned = "", set[str](), set[str]()

    @property
    def caution(self) -> str:
        """What is shared that would be apart elsewhere."""
        if self._options.target != "kind":
            return ""
        return (
            "The nodes of a cluster of kind share this machine's kernel and CPUs: what runs on the "
            "others, the control plane among them, takes CPU from what was measured."
        )

    def check(self) -> None:
        """InputError or NeedError if the cluster cannot be reached, or nothing measured there."""
        secret = bool(self._options.pull_secret)
        machine = platform.machine()
        preflight.require(preflight.evaluation(self._cluster, self._place, machine, secret=secret))
        _ = self._image

    def check_service(self, asked: Spawn | Found) -> None:
        """InputError if such a service cannot be measured there, as far as that is known."""
        services.check(asked)
        if self._pod and isinstance(asked, Found) and asked.workload:
            services.theirs(self._cluster, self._place, asked)

    def prepare(self, tell: Tell) -> None:
        """Make the pod on the node, with the image of this code; what a killed run left goes."""
        if self._pod and node_pod.is_running(self._cluster, self._pod):
            return
        self.check()
        self.load_image(tell)
        option = "--target KIND,namespace=NAME"
        namespaces.await_gone(self._cluster, option, tell)
        namespaces.make(self._cluster, option, namespaces.EVALUATION)
        if self._options.pull_secret:
            sources.carry_pull_secret(self._cluster, self._options.pull_secret)
        node_pod.remove_orphans(self._cluster)
        daemonsets.restore_orphans(self._cluster, tell)
        options.restore_orphans(self._cluster, tell)
        if self._pod:  # it was there, and is not any more
            node_pod.remove(self._cluster, f"pod/{self._pod}")
        tell(f"making a pod on {self._place}")
        self._pod = node_pod.new()
        self._cluster.apply(node_pod.manifest(self._pod, self._place, self._image))
        words = f"--field-selector=metadata.name={self._pod}"
        node_pod.await_ready(self._cluster, words, "The pod of the node side")

    def load_image(self, tell: Tell) -> None:
        """Bring ours to kind's nodes; those of a cluster that exists pull it, or have it."""
        if self._options.target == "kind":
            images.build(tell)
            Kind(self._options.name, chosen.home(self._options.name)).load([self._image], tell)

    def connect(self) -> SaidChannel:
        """A node process in the pod; it undoes what it did when the connection ends."""
        try:
            self.prepare(lambda _: None)
        except CommandError as error:  # as while the API server is away: it is tried again
            raise NeedError(error.what, error.why, error.next_step) from error
        return SaidChannel(node_pod.execute(self._cluster, self._pod))

    def ask(self, question: str, *about: Any) -> Any:
        """What a node answers there."""
        self.prepare(lambda _: None)
        argv = node_pod.execute(self._cluster, self._pod, *arguments(question, about))
        return answer(question, processes.run(argv, check=False, timeout=ANSWER_SECONDS))

    @contextlib.contextmanager
    def serving(
        self, asked: Spawn | Found, name: str, meanwhile: Callable[[], None]
    ) -> Iterator[Spawn | Found]:
        """The container that serves: of a new pod for a service that ships, else of what runs.

        WorkloadError where it cannot be had at this moment: another block may find it.
        """
        with contextlib.ExitStack() as ends:
            try:
                found = self._service(asked, name, ends, meanwhile)
            except (InputError, ComponentError) as error:
                raise WorkloadError(error.what, error.why, error.next_step) from error
            yield found

    def _service(
        self,
        asked: Spawn | Found,
        name: str,
        ends: contextlib.ExitStack,
        meanwhile: Callable[[], None],
    ) -> Spawn | Found:
        if isinstance(asked, Found):
            return services.theirs(self._cluster, self._place, asked) if asked.workload else asked
        own = services.slug(f"{name}-{self._pod.removeprefix(node_pod.POD)}")
        return ends.enter_context(
            services.ours(self._cluster, self._place, self._image, asked, own, meanwhile)
        )

    def place(self, daemonset: str, there: bool, meanwhile: Callable[[], None]) -> list[str]:
        """Move a DaemonSet to the measured node or away from it; its pods elsewhere stay."""
        move = daemonsets.here if there else daemonsets.away
        found = move(self._cluster, self._measured, daemonset, meanwhile)
        self._moved.add(daemonset)
        return found

    def turn(
        self, daemonset: str, option: Option, on: bool, meanwhile: Callable[[], None]
    ) -> tuple[list[str], bool]:
        """Turn an option of a DaemonSet in its pod on the measured node, which stays."""
        self._turned.add(daemonset)
        return options.turn(self._cluster, self._measured, daemonset, option, on, meanwhile)

    def look(
        self, daemonset: str, option: Option, meanwhile: Callable[[], None]
    ) -> tuple[list[str], str]:
        """What it saw, by its own count."""
        return options.look(self._cluster, self._measured, daemonset, option, meanwhile)

    def out_of_the_way(self, cpus: Sequence[int]) -> AbstractContextManager[None]:
        """On kind's nodes this process runs on the same CPUs; elsewhere on another machine."""
        return nullcontext()

    def remove(self) -> None:
        """Put back what was moved, remove the pod, and the namespace if nobody else uses it.

        Each is tried; NeedError names what could not be undone, and how to do it.
        """
        left = []
        for daemonset in sorted(self._moved):
            try:
                daemonsets.restore(self._cluster, daemonset)
                self._moved.discard(daemonset)
            except HarnessError as error:
                left.append(f"The DaemonSet {daemonset} is still kept off {self._place}: {error}")
        for daemonset in sorted(self._turned):
            try:
                options.restore(self._cluster, self._measured, daemonset, lambda: None)
                self._turned.discard(daemonset)
            except HarnessError as error:
                left.append(f"An option of {daemonset} is still turned on {self._place}: {error}")
        try:
            if self._pod:
                node_pod.remove(self._cluster, f"pod/{self._pod}")
                self._pod = ""
            node_pod.remove_namespace(self._cluster)
        except HarnessError as error:
            left.append(f"The namespace {self._options.namespace} is still there: {error}")
        if left:
            raise NeedError(
                f"Not all could be removed from {self.name}.",
                " ".join(left),
                f"Once the cluster answers: harness clean --target {self.name}.",
            )

    @cached_property
    def _cluster(self) -> Cluster:
        return chosen.found(self._options, ["kubectl"])  # nothing is installed by helm

    @cached_property
    def _image(self) -> str:
        return registry.named(images.name(), self._options.registry)

    @property
    def _place(self) -> str:
        """The name of the node that is measured."""
        return str(self._measured["metadata"]["name"])

    @cached_property
    def _measured(self) -> dict[str, Any]:
        """The node that is measured, which the name tells from then on; InputError if it is not."""
        nodes = {each["metadata"]["name"]: each for each in self._cluster.get("nodes")}
        if self._node:
            if self._node not in nodes:
                raise InputError(
                    f"The cluster has no node {self._node!r}.",
                    f"It has {', '.join(sorted(nodes))}.",
                    "Name one of them: node=NODE.",
                )
            return nodes[self._node]
        taking = [name for name, node in sorted(nodes.items()) if not _tainted(node)]
        found = nodes[(taking or sorted(nodes))[0]]
        self.name += f",node={found['metadata']['name']}"  # a run that goes on goes on there
        return found


def in_cluster(kind: str) -> Callable[[str], InCluster]:
    """What makes a target of this kind from what stands behind its name."""
    return lambda given: InCluster(kind, given)


def _read(kind: str, given: str) -> dict[str, str]:
    said: dict[str, str] = {}
    for word in filter(None, given.split(",")):
        key, equals, value = word.partition("=")
        if key not in KEYS[kind] or not equals or not value or key in said:
            raise InputError(
                f"The target {kind},{given} cannot be read at {word!r}.",
                f"Known are {', '.join(f'{each}=' for each in KEYS[kind])} once each.",
                f"Write {kind},{KEYS[kind][0]}=VALUE,node=NODE.",
            )
        said[key] = value
    if said.get("pull_secret", "a/b").count("/") != 1:
        raise InputError(
            f"The Secret {said['pull_secret']!r} cannot be read.",
            "It is copied from a namespace of yours into that of the evaluation, and goes with it.",
            "Write pull_secret=NAMESPACE/NAME.",
        )
    return said


def _tainted(node: dict[str, Any]) -> bool:
    return any(each.get("effect") in _UNSCHEDULED for each in node["spec"].get("taints", ()))
