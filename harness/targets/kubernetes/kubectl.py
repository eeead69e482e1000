"""Asks and tells a cluster through kubectl; everything else here goes through it."""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import CommandError, ComponentError
from harness.linux import processes
from harness.linux.processes import Completed

MANAGER = "harness"
OURS = f"app.kubernetes.io/part-of={MANAGER}"
"""What selects our objects: helm writes its own name into the label `managed-by`."""
_SECONDS = 60.0
_FORWARD_SECONDS = 30.0
_SILENT = (
    "Unable to connect to the server", "The connection to the server", "cluster unreachable",
    "handshake timeout", "i/o timeout", "did not end within",
)  # fmt: skip


@dataclass(frozen=True)
class Cluster:
    """A cluster by kubeconfig and context, and the one namespace in it that is ours.

    `environment` is what commands need besides, such as DOCKER_HOST.
    """

    context: str
    namespace: str
    kubeconfig: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def where(self) -> list[str]:
        """kubectl's options for it."""
        given = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        return [*given, f"--context={self.context}"]

    @property
    def shown(self) -> str:
        """The beginning of a command that a person may type."""
        return " ".join(["kubectl", *self.where, "-n", self.namespace])

    def run(self, *words: str, check: bool = True, seconds: float = _SECONDS) -> Completed:
        """One kubectl command in our namespace; CommandError if it fails and `check` is set."""
        argv = ["kubectl", *self.where, f"--namespace={self.namespace}", *words]
        return processes.run(argv, check=check, timeout=seconds, env=self.environment)

    def get(self, *words: str) -> list[dict[str, Any]]:
        """The objects that `kubectl get` finds, read in pages; none where their kind is unknown."""
        try:
            done = self.run("get", *words, "--chunk-size=200", "--output=json", check=False)
        except CommandError as error:  # it did not end
            raise refusal(self, f"`kubectl get {' '.join(words)}`", error.what) from error
        if done.returncode:
            if "NotFound" in done.stderr or "doesn't have a resource type" in done.stderr:
                return []
            raise refusal(self, f"`kubectl get {' '.join(words)}`", done.stderr)
        found = json.loads(done.stdout)
        return list(found["items"]) if "items" in found else [found]

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Apply an object server-side, as our field manager."""
        self._apply(manifest)

    def refuses(self, manifest: Mapping[str, Any]) -> str:
        """What the API has against an object, by its admission, too; empty if it would take it."""
        done = self._apply(manifest, "--dry-run=server", check=False)
        if done.returncode and any(each in done.stderr for each in _SILENT):
            raise refusal(self, "`kubectl apply --dry-run=server`", done.stderr)
        return " ".join(done.stderr.split())[-800:] if done.returncode else ""

    def _apply(self, manifest: Mapping[str, Any], *more: str, check: bool = True) -> Completed:
        with tempfile.NamedTemporaryFile("w", prefix="harness-", suffix=".json") as file:
            json.dump(manifest, file)
            file.flush()
            words = ("apply", "--server-side", f"--field-manager={MANAGER}", *more)
            return self.run(*words, f"--filename={file.name}", check=check)

    @contextlib.contextmanager
    def forwarded(self, services: Mapping[str, int]) -> Iterator[dict[str, int]]:
        """The ports on 127.0.0.1 that lead to these services' ports, while it lasts."""
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="harness-")))
            ports = {}
            for service, port in services.items():
                ports[service] = _free()
                argv = ["kubectl", *self.where, f"--namespace={self.namespace}", "port-forward"]
                argv += [f"service/{service}", f"{ports[service]}:{port}"]
                log = folder / f"{service}.log"
                process = processes.spawn(argv, log=log, env=self.environment)
                stack.callback(processes.stop, process)
            for service, port in ports.items():
                _await(self, service, port, folder / f"{service}.log")
            yield ports


def refusal(cluster: Cluster, what: str, said: str) -> CommandError:
    """The error of a command that asked the API; where that does not answer, it says just that."""
    words = " ".join(said.split())[-400:]
    if any(each in said for each in _SILENT):
        return CommandError(
            "The cluster's API does not answer.",
            f"Of {what}: {words}",
            f"Wait until it does ({cluster.shown} get nodes), then run the command again.",
        )
    return CommandError(
        f"{what} failed.", words, f"See whether the cluster answers: {cluster.shown} get nodes."
    )


def _free() -> int:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])


def _await(cluster: Cluster, service: str, port: int, log: Path) -> None:
    deadline = time.monotonic() + _FORWARD_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if time.monotonic() > deadline:
            raise ComponentError(
                f"The service {service} cannot be reached through the cluster's API.",
                " ".join(processes.last_words(log)),
                f"See that it and its pod are there ({cluster.shown} get services,pods), and that "
                "this user may forward ports (pods/portforward).",
            )
        time.sleep(0.1)


def labels(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What an object is labelled with that helm does not make."""
    own = {"app.kubernetes.io/managed-by": MANAGER, "app.kubernetes.io/part-of": MANAGER}
    return {**own, **(more or {})}
