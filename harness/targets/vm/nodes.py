"""Images for the nodes of a cluster on machines, brought by ssh; for `rollout` and `target`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.errors import CommandError, NeedError
from harness.linux import processes
from harness.linux.processes import Completed
from harness.targets.kubernetes import images, registry
from harness.targets.vm.inventory import Host
from harness.targets.vm.making import Tell

_CTR = ("ctr", "--namespace=k8s.io", "images")
_AS_ROOT = ("sh", "-c", '[ "$(id -u)" = 0 ] && exec "$@"; exec sudo -n "$@"', "sh")
_LOOK_SECONDS, _LOAD_SECONDS = 60.0, 1800.0


class Nodes:
    """The hosts of a cluster as nodes that images may be put into, by `containerd` on them."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = {host.name: host for host in hosts}
        self._connections = {host.name: host.connection() for host in hosts}

    def load(self, wanted: list[str], tell: Tell) -> list[str]:
        """Put into them what the local docker has of these images; those that it had."""
        had = [image for image in wanted if images.present(image)]
        lacking = {node: self._lacking(node, had) for node in self._hosts}
        due = {node: names for node, names in lacking.items() if names}
        if not due:
            return had
        with tempfile.TemporaryDirectory(prefix="harness-images-") as folder:
            file = Path(folder) / "images.tar"
            names = sorted({name for each in due.values() for name in each})
            argv = ["docker", "save", f"--output={file}", *names]
            processes.run(argv, timeout=_LOAD_SECONDS)
            for node in due:
                tell(f"loading {len(names)} images ({file.stat().st_size >> 20} MiB) into {node}")
                self._taken(node, file)
        return had

    def nodes_without(self, wanted: Sequence[str]) -> list[str]:
        """Those that lack one of these images."""
        return [node for node in self._hosts if self._lacking(node, wanted)]

    def taking(self, node: str) -> list[str]:
        """The command that takes an archive of images into a node, from its stdin."""
        connection = self._connections[node]
        connection.open()
        return connection.argv(*_AS_ROOT, *_CTR, "import", "-")

    def close(self) -> None:
        """Hang up."""
        for connection in self._connections.values():
            connection.close()

    def _lacking(self, node: str, wanted: Sequence[str]) -> list[str]:
        there = self._there(node)
        return [image for image in wanted if registry.short(image) not in there]

    def _there(self, node: str) -> set[str]:
        """The images that it has, by their plain names."""
        return set(map(registry.short, self._run(node, "ls", "--quiet").stdout.split()))

    def _taken(self, node: str, file: Path) -> None:
        self._run(node, "import", "-", file=file)

    def _run(self, node: str, *words: str, file: Path | None = None) -> Completed:
        command = (*_AS_ROOT, *_CTR, *words)
        seconds = _LOOK_SECONDS if file is None else _LOAD_SECONDS
        done = self._connections[node].run(*command, timeout=seconds, file=file)
        if done.returncode:
            raise _refused(node, words[0], done)
        return done


@contextmanager
def reached(hosts: Sequence[Host]) -> Iterator[Nodes]:
    """The hosts as nodes, for as long as it lasts."""
    nodes = Nodes(hosts)
    try:
        yield nodes
    finally:
        nodes.close()


def _refused(node: str, what: str, done: Completed) -> CommandError | NeedError:
    said = " ".join(done.stderr.split())[-300:]
    if "sudo:" in said or "a password is required" in said:
        return NeedError(
            f"sudo on {node} asks for a password: no image can be brought there.",
            said,
            "Allow this user NOPASSWD in /etc/sudoers.d for the time, or let the nodes pull: "
            "--registry PREFIX.",
        )
    return CommandError(
        f"`ctr images {what}` failed on {node}.",
        said,
        "See that containerd runs there (systemctl status containerd) and that there is room.",
    )
