"""A host to reach by ssh: sshd in network, process and mount namespaces of its own.

It shares this machine's kernel, cgroups and files, but for those that are told of here: /run,
/var/lib and /root are empty there, so that what a node leaves can be seen.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.linux import processes

ORDINARY, ALLOWED = "ordinary", "allowed"  # users there: the second may use sudo
NAME = "node"

_INIT = """
set -e
ip link set lo up
mount -t tmpfs none /run
mkdir /run/sshd
mount -t tmpfs -o "size=$2" none /var/lib
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/shadow" /etc/shadow
mount -t tmpfs -o mode=755 none /etc/sudoers.d
mount -t tmpfs -o mode=700 none /root
cp "$1/sudoers" /etc/sudoers.d/harness
chmod 440 /etc/sudoers.d/harness
eval "$3"
exec /usr/sbin/sshd -D -e -f "$1/sshd_config"
"""

# run in the network namespace of the host: a connection, handed over to ssh
_DIAL = """
import os, socket, sys
connection = socket.create_connection(("127.0.0.1", 22))
socket.send_fds(socket.socket(fileno=1), [b"."], [connection.fileno()])
"""

_SSHD = """
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
"""

_SSH = """
Host gone
    HostName 127.0.0.1
    Port 1
    ProxyCommand none
Host nowhere.invalid
    ProxyCommand none
Host *
    ProxyCommand nsenter --net=/proc/{pid}/ns/net {python} {folder}/dial.py
    ProxyUseFdpass yes
Host *
    User root
    IdentityFile {folder}/{key}
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/{known}
    GlobalKnownHostsFile /dev/null
    HostKeyAlias host
"""


@dataclass(frozen=True)
class Server:
    """sshd that runs; `pid` is its own, as it is seen from here."""

    folder: Path
    pid: int

    def configuration(
        self, name: str = "config", *, key: str = "user", known: str = "known"
    ) -> Path:
        """An ssh configuration that leads to it, by this key, trusting these hosts."""
        path = self.folder / name
        words = {"folder": self.folder, "pid": self.pid, "python": sys.executable}
        path.write_text(_SSH.format(**words, key=key, known=known))
        return path

    def path(self, there: str) -> Path:
        """A path of the host, as it can be reached from here."""
        return Path(f"/proc/{self.pid}/root{there}")

    def log(self) -> str:
        """What sshd says."""
        return (self.folder / "sshd.log").read_text()


@contextlib.contextmanager
def serve(*, size: str = "90%", before: str = "true") -> Iterator[Server]:
    """The host, with `size` of /var/lib, and a shell command that is run there before sshd."""
    with tempfile.TemporaryDirectory(prefix="sshd-") as folder:
        _write(Path(folder))
        with _started(Path(folder), size, before) as server:
            yield server


@contextlib.contextmanager
def _started(folder: Path, size: str, before: str) -> Iterator[Server]:
    argv = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv += ["sh", "-c", _INIT, "sh", str(folder), size, before]
    outer = processes.spawn(argv, log=folder / "sshd.log")
    try:
        server = Server(folder, _inner(outer.pid, folder))
        _await(server)
        yield server
    finally:
        processes.stop(outer, grace_seconds=0.0)


def _write(folder: Path) -> None:
    for name in ("host", "user", "stranger"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]
        processes.run([*argv, str(folder / name)])
    public = (folder / "host.pub").read_text()
    (folder / "known").write_text(f"host {public}")
    (folder / "changed").write_text(f"host {(folder / 'stranger.pub').read_text()}")
    (folder / "dial.py").write_text(_DIAL)
    (folder / "sshd_config").write_text(_SSHD.format(folder=folder))
    for file, line in (("passwd", "{}:x:{}:4000::/:/bin/sh\n"), ("shadow", "{}:*:20000::::::\n")):
        users = (line.format(name, uid) for name, uid in ((ORDINARY, 4001), (ALLOWED, 4002)))
        (folder / file).write_text(Path(f"/etc/{file}").read_text() + "".join(users))
    (folder / "shadow").chmod(0o600)
    (folder / "sudoers").write_text(f"{ALLOWED} ALL=(root) NOPASSWD: ALL\n")
    folder.chmod(0o711)  # a user's keys are read as that user


def _inner(outer: int, folder: Path) -> int:
    """The pid of the first process of the namespace, once it is there."""
    children = Path(f"/proc/{outer}/task/{outer}/children")
    while not (found := children.read_text().split()):
        time.sleep(0.01)
        assert children.exists(), (folder / "sshd.log").read_text()
    return int(found[0])


def _await(server: Server) -> None:
    while "Server listening" not in server.log():
        assert server.path("/").exists(), server.log()
        time.sleep(0.02)
