"""A host that is reached by ssh as a target: what a node needs is copied to it, and removed."""

from __future__ import annotations

import platform
import secrets
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.errors import NeedError
from harness.linux.processes import Completed
from harness.targets import packages, ssh_host
from harness.targets.base import OnMachine, Tell, answer, arguments
from harness.targets.bundle import Bundle, bundle
from harness.targets.channel import ProcessChannel
from harness.targets.openssh import Connection, host
from harness.targets.ssh_host import Look

FOLDER = "/var/lib/harness"
ANSWER_SECONDS = 660.0
INSTALL_SECONDS = 1800.0
LOOK_SECONDS = 60.0
REMOVE_SECONDS = 300.0


class Ssh(OnMachine):
    """The node runs on the host as root, from `<folder>/<hash>`; all talk is over one connection.

    `given` is `[USER@]HOST[:PORT]`; another `connection` to it may be given.
    """

    def __init__(
        self, given: str, folder: str = FOLDER, connection: Connection | None = None
    ) -> None:
        self.name = f"ssh:{given}"
        self._host, self._folder = host(given), folder
        self._connection = connection or Connection(self._host)
        self._prepared = False

    def check(self) -> None:
        """InputError or NeedError if the host cannot be reached, or cannot run a node."""
        ssh_host.require(self._host.name, self._look, platform.machine())
        _ = self._bundle

    def prepare(self, tell: Tell) -> None:
        """Copy what a node needs, unless the host has it; whole or not at all."""
        self.check()
        if self._as_root("test", "-d", self._place, timeout=LOOK_SECONDS).returncode:
            with tempfile.NamedTemporaryFile(prefix="harness-node-", suffix=".tar.gz") as packed:
                self._bundle.write(packed, tell, packages.cache())
                packed.flush()
                size = Path(packed.name).stat().st_size
                tell(f"copying {max(1, size >> 20)} MiB to {self._host.name}")
                self._install(Path(packed.name))
        self._prepared = True

    def connect(self) -> SshChannel:
        """A node process on the host; it undoes what it did when the connection ends."""
        self._require_prepared()
        self._connection.open()
        return SshChannel(self._connection, self._connection.argv(*self._node()))

    def ask(self, question: str, *about: Any) -> Any:
        """What a node answers there."""
        self._require_prepared()
        argv = self._node(*arguments(question, about))
        return answer(question, self._connection.run(*argv, timeout=ANSWER_SECONDS))

    def out_of_the_way(self, cpus: Sequence[int]) -> AbstractContextManager[None]:
        """This process runs on another machine."""
        return nullcontext()

    def remove(self) -> None:
        """Remove all that was ever installed there, but what others use at this moment; hang up."""
        self._prepared = False
        try:
            done = self._sh(ssh_host.REMOVE, self._folder, timeout=REMOVE_SECONDS)
        finally:
            self._connection.close()
        if done.returncode:
            raise NeedError(
                f"{self._folder} on {self._host.name} cannot be removed.",
                done.stderr.strip(),
                f"Remove it by hand: rm -r {self._folder}.",
            )

    @property
    def _place(self) -> str:
        return f"{self._folder}/{self._bundle.key}"

    @cached_property
    def _look(self) -> Look:
        asked = ("sh", "-c", ssh_host.LOOK, "sh", self._folder)
        return ssh_host.look(self._host.name, self._connection.run(*asked, timeout=LOOK_SECONDS))

    @cached_property
    def _bundle(self) -> Bundle:
        return bundle(self._look.python)

    def _require_prepared(self) -> None:
        if not self._prepared:
            self.prepare(lambda _: None)

    def _node(self, *arguments: str) -> list[str]:
        """The command of a node; as long as it runs, `remove` leaves its files alone."""
        here = 'cd "$1" && shift && exec flock --shared . venv/bin/python -m harness.node "$@"'
        return self._root("sh", "-c", here, "sh", self._place, *arguments)

    def _root(self, *command: str) -> list[str]:
        return [*(() if self._look.is_root else ("sudo", "-n")), *command]

    def _as_root(self, *command: str, timeout: float, file: Path | None = None) -> Completed:
        return self._connection.run(*self._root(*command), timeout=timeout, file=file)

    def _sh(self, script: str, *words: str, timeout: float, file: Path | None = None) -> Completed:
        return self._as_root("sh", "-c", script, "sh", *words, timeout=timeout, file=file)

    def _install(self, packed: Path) -> None:
        words = (self._folder, self._bundle.key, self._look.interpreter)
        done = self._sh(ssh_host.INSTALL, *words, timeout=INSTALL_SECONDS, file=packed)
        if done.returncode:
            raise ssh_host.not_installed(self._host.name, self._folder, done.stderr)


class SshChannel(ProcessChannel):
    """A node's pipe through ssh; what is said on stderr is kept while it is connected."""

    def __init__(self, connection: Connection, argv: Sequence[str]) -> None:
        self._connection, self._said = connection, ""
        super().__init__(argv, connection.file(f"node-{secrets.token_hex(4)}.log"))

    def close(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Hang up, and wait until the node has undone what it did."""
        super().close(meanwhile)
        self._said = self.last_words()

    def last_words(self) -> str:
        """What the node said last, and what ssh says of the connection."""
        return self._said or f"{super().last_words()} {self._connection.said()}".strip()
