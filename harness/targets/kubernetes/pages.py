"""The pages of a stack in a cluster, and a way to one that is kept open; for `profiles`, `rollout`,
`production` and `opening`.
"""

from __future__ import annotations

import http.client
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ComponentError, NeedError
from harness.linux import processes
from harness.linux.processes import Process
from harness.targets.kubernetes.kubectl import OURS, Cluster

HERE = "127.0.0.1"
FIRST_SECONDS = 30.0  # until it is given up at the beginning
LOOK_SECONDS = 2.0  # between two looks whether it still answers, and until it is tried again
ANSWER_SECONDS = 5.0
MISSES = 2  # in a row, after which a way leads nowhere: the page may only be slow

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Page:
    """What a person may look at: a Service and its port, and the port that is taken for it here.

    `path` is where it begins; one that asks for a login has a `user`, and its password in `secret`.
    `added` is the option that adds it to a stack that need not have it.
    """

    title: str
    service: str
    port: int
    here: int
    path: str = "/"
    user: str = ""
    secret: tuple[str, str] = ("", "")
    added: str = ""

    def url(self, port: int) -> str:
        """Where it is, on this port here."""
        return f"http://{HERE}:{port}{self.path}"

    def password(self, cluster: Cluster) -> str:
        """The command that tells its password; empty if it asks for none."""
        name, key = self.secret
        get = f"{cluster.shown} get secret {name} -o jsonpath={{.data.{key}}}"
        return f"{get} | base64 -d" if name else ""

    def forward(self, port: int) -> list[str]:
        """kubectl's words for a way from this port here."""
        ports = f"{port}:{self.port}" if port != self.port else f"{port}"
        return ["port-forward", f"service/{self.service}", ports]


Pages = Mapping[str, Page]
"""By the name that a person says."""


def commands(cluster: Cluster, pages: Pages) -> dict[str, str]:
    """What a person could type to reach each of them."""
    found = {}
    for page in pages.values():
        who = f", user {page.user}" if page.user else ""
        forward = " ".join(page.forward(page.here))
        found[page.title] = f"{cluster.shown} {forward}  # http://{HERE}:{page.here}{who}"
        if password := page.password(cluster):
            found[f"{page.title}'s password"] = password
    return found


def require(cluster: Cluster, page: Page, port: int) -> None:
    """NeedError if the stack is not there, or the port here is taken."""
    if not cluster.get("service", page.service):
        if page.added and cluster.get("services", f"--selector={OURS}"):
            raise NeedError(
                f"The stack in the namespace {cluster.namespace} of {cluster.context} has no "
                f"{page.title}.",
                next_step=f"Add it: the harness up that made it, with {page.added}.",
            )
        raise NeedError(
            f"The stack is not up: the namespace {cluster.namespace} of {cluster.context} has no "
            f"service {page.service}.",
            next_step="Roll it out with harness up, or name another --namespace, --context or "
            "--profile.",
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HERE, port))
        except OSError as error:
            raise NeedError(
                f"The port {port} of {HERE} cannot be had: {error.strerror}.",
                next_step=f"Name another one: --port {port + 10_000 if port < 50_000 else 8080}.",
            ) from None


def hold(cluster: Cluster, page: Page, port: int, reached: Callable[[], None], tell: Tell) -> None:
    """Keep a way to it open, until this is interrupted; `reached` is called when there is one.

    kubectl chooses one pod for it, and notices that this is gone when it is asked for the page: so
    that is asked for, and where there is no answer another way is opened. ComponentError if there
    is none at the beginning.
    """
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        log, known = Path(folder) / "forward.log", False
        argv = ["kubectl", *cluster.where, f"--namespace={cluster.namespace}"]
        argv += [*page.forward(port), f"--address={HERE}"]
        while True:
            process = processes.spawn(argv, log=log, env=cluster.environment)
            try:
                if _begins(process, page, port):
                    if known:
                        tell(f"{page.title} is reached again.")
                    else:
                        reached()
                    known = True
                    _watch(process, page, port)
                    tell(f"{page.title} is not reached any more; it is tried again.")
            finally:
                processes.stop(process)
            words = " ".join(processes.last_words(log))
            if not known:
                raise ComponentError(
                    f"{page.title} cannot be reached through the cluster's API.",
                    words,
                    "See that its pod is ready (harness status), and that you may forward ports "
                    "(pods/portforward).",
                )
            time.sleep(LOOK_SECONDS)


def _begins(process: Process, page: Page, port: int) -> bool:
    """Whether the page answers by this way, which is given some time for it."""
    deadline = time.monotonic() + FIRST_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if answers(port, page.path):
            return True
        time.sleep(0.1)
    return False


def _watch(process: Process, page: Page, port: int) -> None:
    """Until the way leads nowhere any more."""
    missed = 0
    while process.poll() is None and missed < MISSES:
        time.sleep(LOOK_SECONDS)
        missed = 0 if answers(port, page.path) else missed + 1


def answers(port: int, path: str) -> bool:
    """Whether whoever is there answers at all, with whatever status."""
    connection = http.client.HTTPConnection(HERE, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True
