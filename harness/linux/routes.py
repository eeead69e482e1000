"""Whether a URL leads away from this machine; asked by `service` and `answers` before a start.

Containers and network namespaces of this machine are neighbours: what leads to them has no gateway.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

from harness.errors import InputError
from harness.linux import listeners
from harness.linux.listeners import Address
from harness.linux.procfs import HOST, Procfs

Route = tuple[IPv4Network | IPv6Network, int]  # and its flags

_GATEWAY, _REJECT = 0x0002, 0x0200  # RTF_ flags in the kernel's include/uapi/linux/route.h


def require_here(url: str, procfs: Procfs = HOST) -> None:
    """InputError if what is started here can not answer at this URL."""
    host = urlsplit(url).hostname or ""
    if not (found := listeners.resolved(host)):
        raise InputError(
            f"{url} cannot be asked: {host} is the name of no address here.",
            next_step="Give the address at which the command answers, as http://127.0.0.1:PORT/.",
        )
    if all(leads_away(address, procfs) for address in found):
        raise InputError(
            f"{url} is not on this machine: the way to {found[0]} leaves its networks.",
            "The load would go to somebody else, not to what --command starts.",
            "Give the address at which the command answers, as http://127.0.0.1:PORT/; or "
            "--target ssh:HOST, to start and measure it there.",
        )


def leads_away(address: Address, procfs: Procfs = HOST) -> bool:
    """Whether its packets go through a gateway, or nowhere; not if the kernel tells no routes."""
    if address.is_loopback or listeners.is_local(address, procfs=procfs):
        return False
    routes = list(_ipv4(procfs) if address.version == 4 else _ipv6(procfs))
    mine = [(network.prefixlen, flags) for network, flags in routes if address in network]
    if not mine:
        return bool(routes)
    longest, _ = max(mine)
    return all(flags & (_GATEWAY | _REJECT) for length, flags in mine if length == longest)


def _ipv4(procfs: Procfs) -> Iterator[Route]:
    """Networks and flags, from /proc/net/route; words are in the machine's byte order."""
    for line in procfs.text("self", "net/route").splitlines()[1:]:
        columns = line.split()
        start, mask = (IPv4Address(struct.pack("=I", int(columns[i], 16))) for i in (1, 7))
        yield IPv4Network(f"{start}/{mask}"), int(columns[3], 16)


def _ipv6(procfs: Procfs) -> Iterator[Route]:
    """The same of /proc/net/ipv6_route, which has them as they are sent."""
    for line in procfs.text("self", "net/ipv6_route").splitlines():
        columns = line.split()
        start = IPv6Address(int(columns[0], 16))
        yield IPv6Network(f"{start}/{int(columns[1], 16)}"), int(columns[8], 16)
