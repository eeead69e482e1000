"""One connection to a host through the OpenSSH client, shared by all that is run there; for `ssh`.

Whom to trust, and which key, port and user to take is for the user's ssh configuration to say.
Nothing is forwarded and nobody is asked anything.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import tempfile
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError, InputError, NeedError, NodeError
from harness.linux import processes
from harness.linux.processes import Completed, Process

CONFIGURATION = "HARNESS_SSH_CONFIG"
"""The variable that names another file than ~/.ssh/config."""
ALIVE = ("ServerAliveInterval=15", "ServerAliveCountMax=4")
"""How a host that is gone is noticed within a minute, also by Ansible."""

CONNECT_SECONDS = 60.0
_PREFIX = "harness-ssh-"
FAILED = 255  # ssh's own exit code; that of what it runs is any other
_POLL_SECONDS = 0.02
_OPTIONS = (
    "BatchMode=yes", "ConnectTimeout=20", *ALIVE,
    "ForwardAgent=no", "ForwardX11=no", "ClearAllForwardings=yes", "PermitLocalCommand=no",
    "RequestTTY=no", "RemoteCommand=none", "LogLevel=INFO",
)  # fmt: skip


@dataclass(frozen=True)
class Host:
    """Whom to connect to, as the user named it; 0 and "" leave the choice to ssh."""

    name: str
    user: str = ""
    port: int = 0

    def argv(self) -> list[str]:
        """Its part of ssh's arguments."""
        user = ["-l", self.user] if self.user else []
        return [*user, *(["-p", str(self.port)] if self.port else []), "--", self.name]


def host(given: str) -> Host:
    """The host of `[USER@]HOST[:PORT]`, an IPv6 address in brackets; InputError if it is none."""
    user, _, rest = given.rpartition("@")
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:@\[\]]+))(?::(\d{1,5}))?", rest)
    # what begins with a dash would be an option of ssh
    if found is None or given.startswith("-") or rest.startswith("-") or re.search(r"\s", user):
        raise InputError(
            f"{given!r} names no host.",
            next_step="Write ssh:HOST, ssh:USER@HOST or ssh:USER@HOST:PORT.",
        )
    return Host(found[1] or found[2], user, int(found[3] or 0))


class Connection:
    """Opened by the first use; a process of ours holds it and ends with this one.

    `words` are further arguments of ssh, which come after ours and so cannot undo them.
    """

    def __init__(self, to: Host, words: Sequence[str] = ()) -> None:
        self._to, self._words = to, tuple(words)
        self._folder: Path | None = None
        self._holder: Process | None = None

    @property
    def _log(self) -> Path:
        return self.file("ssh.log")

    def open(self) -> None:
        """Connect; InputError, NeedError or NodeError with what ssh says if that fails."""
        if self._holder is not None and self._holder.poll() is None:
            return
        self.close()
        if shutil.which("ssh") is None:
            raise NeedError(
                "ssh is not installed.",
                "The host is reached by OpenSSH's client.",
                "Install it (Debian and Ubuntu: openssh-client).",
            )
        _sweep()
        self._folder, lock = _folder()
        argv = [*self._ssh(), "-M", "-N", *self._to.argv()]
        self._holder = processes.spawn(argv, log=self._log)
        self._close = weakref.finalize(self, _end, self._holder, self._folder, lock)
        self._await()

    def argv(self, *command: str) -> list[str]:
        """What runs a command on the host, word for word, over the open connection."""
        return [*self._ssh(), "-T", *self._to.argv(), shlex.join(command)]

    def run(self, *command: str, timeout: float, file: Path | None = None) -> Completed:
        """Run a command there to its end, with a file as its stdin, or nothing.

        NodeError if the connection is lost meanwhile; the exit code is the caller's to judge.
        """
        self.open()
        done = processes.run(
            self.argv(*command), check=False, timeout=timeout, input_file=file or Path(os.devnull)
        )
        if done.returncode == FAILED:
            raise self.refusal(done.stderr)
        return done

    def refusal(self, said: str = "") -> HarnessError:
        """What ssh said, as an error that tells what to do."""
        return refusal(self._to, said + self.said())

    def file(self, name: str) -> Path:
        """A path for a file that goes with the connection."""
        assert self._folder is not None, "open() comes first"
        return self._folder / name

    def said(self) -> str:
        """What ssh said of the connection as a whole."""
        if self._folder is None:
            return ""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def close(self) -> None:
        """Hang up; safe to call again."""
        if self._holder is not None:
            self._close()
        self._holder = self._folder = None

    def _ssh(self) -> list[str]:
        given = os.environ.get(CONFIGURATION, "")
        argv = ["ssh", *(["-F", given] if given else [])]
        for option in _OPTIONS:
            argv += ["-o", option]
        return [*argv, "-o", "ControlPersist=no", "-S", str(self.file("control")), *self._words]

    def _await(self) -> None:
        """Until ssh offers its socket, which it does once it is let in."""
        assert self._holder is not None
        deadline = time.monotonic() + CONNECT_SECONDS
        while not self.file("control").exists():
            if self._holder.poll() is not None or time.monotonic() > deadline:
                error = self.refusal()
                self.close()
                raise error
            time.sleep(_POLL_SECONDS)


def _end(holder: Process, folder: Path, lock: int) -> None:
    processes.stop(holder)
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def _folder() -> tuple[Path, int]:
    """A folder for sockets and logs, and the lock that says that it is in use."""
    made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))
    lock = os.open(made, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return made.rename(made.with_name(made.name[1:])), lock


def _sweep() -> None:
    """Remove the folders of those that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # in use, somebody else's, or gone
            lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(lock)


# in ssh's words -> (class, what is the matter, what to do); the first that is found in them
_REFUSALS: tuple[tuple[str, type[HarnessError], str, str], ...] = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        NeedError,
        "The key of {name} is another than the one that is known.",
        "Find out why, before you remove the old one: ssh-keygen -R {name}.",
    ),
    (
        "Host key verification failed",
        NeedError,
        "The key of {name} is not known here.",
        "Connect once by hand and compare its fingerprint: ssh {address}.",
    ),
    (
        r"Permission denied|Too many authentication failures",
        NeedError,
        "{name} does not let us in.",
        "Name a key in ~/.ssh/config or load it into your agent, until this works: "
        "ssh -o BatchMode=yes {address} true.",
    ),
    (
        r"Could not resolve hostname|Name or service not known",
        InputError,
        "There is no host {name}.",
        "Check the name, or give it a HostName in ~/.ssh/config.",
    ),
    (
        r"Connection refused|timed out|No route to host|unreachable|kex_exchange|proxy dialer",
        NeedError,
        "{name} cannot be reached.",
        "See that it is up and that sshd listens there: ssh {address}.",
    ),
    (
        r"Bad configuration option|terminating, \d+ bad configuration|Can't open user config",
        InputError,
        "ssh cannot read its configuration.",
        "Mend it, until this works: ssh {address} true.",
    ),
)


def refusal(to: Host, said: str) -> HarnessError:
    """What ssh wrote on stderr, as an error that tells what to do."""
    lines = [line.strip() for line in said.splitlines() if line.strip(" \r@")]
    why = f"ssh says: {' '.join(lines[-3:])}" if lines else "ssh says nothing."
    address = " ".join([*(["-p", str(to.port)] if to.port else []), _named(to)])
    for pattern, kind, what, then in _REFUSALS:
        if re.search(pattern, said):
            words = {"name": to.name, "address": address}
            return kind(what.format(**words), why, then.format(**words))
    return NodeError(
        f"The connection to {to.name} failed.", why, f"See that this stays up: ssh {address}."
    )


def _named(to: Host) -> str:
    return f"{to.user}@{to.name}" if to.user else to.name
