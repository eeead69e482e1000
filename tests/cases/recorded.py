"""A /proc of another machine: processes, their sockets, network namespaces and cgroups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from harness.linux.procfs import Procfs

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  inode\n"
ROW = (
    "   0: {at}:{port:04X} {zero}:0000 0A 00000000:00000000 00:00000000 00000000     0        0 "
    "{inode} 1 00000000852ca828 100 0 0 10 0\n"
)
LOOPBACK = """\
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
"""
ETHERNET = """\
     +-- {address}/24 2 0 2
        |-- {address}
           /32 host LOCAL
"""


@dataclass(frozen=True)
class Network:
    """A network namespace: its inode, its IPv4 addresses, (address, port, inode) of listeners."""

    inode: int
    addresses: tuple[str, ...] = ()
    listening: tuple[tuple[str, int, int], ...] = ()

    def files(self) -> Mapping[str, str]:
        """What is in /proc/PID/net."""
        tables = {4: HEAD, 6: HEAD}
        for address, port, inode in self.listening:
            there = ip_address(address)
            words = [there.packed[i : i + 4][::-1].hex() for i in range(0, len(there.packed), 4)]
            at = "".join(words).upper()
            tables[there.version] += ROW.format(at=at, port=port, zero="0" * len(at), inode=inode)
        trie = "Main:\nLocal:\n  +-- 0.0.0.0/0 3 0 5\n" + LOOPBACK
        trie += "".join(ETHERNET.format(address=address) for address in self.addresses)
        loopback = f"{1:032x} 01 80 10 80       lo\n"
        return {"tcp": tables[4], "tcp6": tables[6], "fib_trie": trie, "if_inet6": loopback}


@dataclass
class Machine:
    """Writes processes below `root`; the harness itself is the process `self`, pid 1000."""

    root: Path
    network: Network = field(default_factory=lambda: Network(1, ("192.0.2.2",)))

    def __post_init__(self) -> None:
        self.process(1, "init", parent=0, started=1)
        self.process(1000, "harness", started=900)
        (self.root / "self").symlink_to("1000")

    @property
    def procfs(self) -> Procfs:
        """What is to be asked instead of /proc."""
        return Procfs(self.root)

    def process(
        self,
        pid: int,
        name: str,
        *argv: str,
        cgroup: str = "0::/",
        parent: int = 1,
        started: int = 100,
        sockets: Iterable[int] = (),
        network: Network | None = None,
        pid_namespace: int = 1,
        mountinfo: str = "",
    ) -> None:
        """One process; `cgroup` and `mountinfo` as /proc/PID has them."""
        folder, space = self.root / str(pid), network or self.network
        for each in ("fd", "ns", "net"):
            (folder / each).mkdir(parents=True)
        (folder / "comm").write_text(f"{name}\n")
        (folder / "cmdline").write_bytes(b"".join(f"{w}\0".encode() for w in (argv or (name,))))
        (folder / "cgroup").write_text(f"{cgroup}\n")
        (folder / "mountinfo").write_text(mountinfo)
        rest = " ".join(["0"] * 17)
        (folder / "stat").write_text(f"{pid} ({name}) S {parent} {rest} {started} 0 0\n")
        for number, inode in enumerate(sockets):
            (folder / "fd" / str(number)).symlink_to(f"socket:[{inode}]")
        (folder / "ns" / "net").symlink_to(f"net:[{space.inode}]")
        (folder / "ns" / "pid").symlink_to(f"pid:[{pid_namespace}]")
        for file, text in space.files().items():
            (folder / "net" / file).write_text(text)


def cgroup(folder: Path, *pids: int) -> Path:
    """The folder of a cgroup with these processes."""
    folder.mkdir(parents=True)
    (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    (folder / "cgroup.events").write_text(f"populated {int(bool(pids))}\nfrozen 0\n")
    return folder
