"""Who listens on a TCP address, in any network namespace; from /proc, for `node.scope`.

A listening socket has an inode, and processes hold it by descriptors: the one that made it, those
that it forked, those to which it was handed. Any of them may accept.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from harness.linux.procfs import HOST, Procfs

Address = IPv4Address | IPv6Address

_LISTEN = "0A"  # TCP_LISTEN in the kernel's proc_net_tcp document
_LEAF = re.compile(r"\|-- (\S+)\n((?:\s+/\d+ \w+ \w+.*\n)+)")
_ROUTE = re.compile(r"/(\d+) host LOCAL")


@dataclass(frozen=True)
class Listening:
    """A listening socket. An IPv4 address that is written as IPv6 is IPv4 here."""

    address: Address
    port: int
    inode: int

    def __str__(self) -> str:
        return written(self.address, self.port)


def written(address: Address, port: int) -> str:
    """As a URL has it."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def parse(table: str) -> list[Listening]:
    """The listening sockets of a /proc/net/tcp or tcp6."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return [
        Listening(
            _address(row[1].rpartition(":")[0]), int(row[1].rpartition(":")[2], 16), int(row[9])
        )
        for row in rows
        if len(row) > 9 and row[3] == _LISTEN
    ]


def listening(pid: int | str = "self", procfs: Procfs = HOST) -> list[Listening]:
    """The listening sockets of the network namespace of a process."""
    return [each for table in ("tcp", "tcp6") for each in parse(procfs.text(pid, f"net/{table}"))]


def chosen(sockets: Iterable[Listening], address: Address, port: int) -> list[Listening]:
    """Those among which the kernel chooses for a connection to this address; mostly one.

    One bound to the address itself comes before one for all of IPv4, and that before one for all
    of IPv6 (compute_score in the kernel's inet_hashtables.c); more than one share it by
    SO_REUSEPORT.
    """
    here = [each for each in sockets if each.port == port]
    wild: list[Address] = [IPv6Address(0)]
    if address.version == 4:
        wild.insert(0, IPv4Address(0))
    for wanted in (address, *wild):
        if found := [each for each in here if each.address == wanted]:
            return found
    return []


def holders(sockets: Iterable[Listening], procfs: Procfs = HOST) -> dict[Listening, set[int]]:
    """The pids that hold each socket; none for one whose holders cannot be seen from here."""
    found: dict[Listening, set[int]] = {each: set() for each in sockets}
    by_inode = {each.inode: each for each in found}
    for pid in procfs.pids() if found else ():
        for inode in procfs.sockets(pid) & by_inode.keys():
            found[by_inode[inode]].add(pid)
    return found


def held(pids: Iterable[int], procfs: Procfs = HOST) -> list[Listening]:
    """What these processes listen on, each in its own network namespace."""
    tables: dict[int, list[Listening]] = {}
    found: dict[int, Listening] = {}
    for pid in sorted(pids):
        space = procfs.namespace(pid, "net")
        if space not in tables:
            tables[space] = listening(pid, procfs)
        inodes = procfs.sockets(pid)
        found |= {each.inode: each for each in tables[space] if each.inode in inodes}
    return list(found.values())


def is_local(address: Address, pid: int | str = "self", procfs: Procfs = HOST) -> bool:
    """Whether this address is one of the network namespace of a process."""
    if address.version == 6:
        lines = procfs.text(pid, "net/if_inet6").split("\n")
        return address in {IPv6Address(int(line[:32], 16)) for line in lines if line}
    leaves = _LEAF.findall(procfs.text(pid, "net/fib_trie"))
    return any(
        address in ip_network(f"{start}/{size}", strict=False)
        for start, routes in leaves
        for size in _ROUTE.findall(routes)
    )


def namespaces(procfs: Procfs = HOST) -> dict[int, int]:
    """One pid of each network namespace in which a process lives, by the namespace's inode."""
    found: dict[int, int] = {}
    for pid in procfs.pids():
        if space := procfs.namespace(pid, "net"):
            found.setdefault(space, pid)
    return found


def resolved(host: str) -> list[Address]:
    """The addresses of a name, in the order in which they are tried; none if it has none."""
    try:
        told = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    found = [ip_address(str(each[4][0]).partition("%")[0]) for each in told]
    return list(dict.fromkeys(map(_plain, found)))


def _address(text: str) -> Address:
    """An address as the kernel prints it: words of 32 bits in the machine's byte order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    return _plain(ip_address(struct.pack(f"={len(words)}I", *words)))


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped
