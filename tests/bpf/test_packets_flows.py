"""The programs of `flows` that see packets, on crafted ones, by BPF_PROG_TEST_RUN."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.agent import flow_series
from harness.agent.drops import Drops
from harness.agent.flows import Flows
from harness.agent.libbpf import Object
from harness.agent.peers import Peers
from harness.agent.together import Together
from tests.bpf.packets import (
    ESP,
    FRAGMENT,
    HOP_BY_HOP,
    IPV4,
    IPV6,
    OPTIONS,
    ROUTING,
    UDP,
    ipv4,
    ipv6,
    run,
    tcp,
    udp,
)

pytestmark = pytest.mark.bpf

CLIENT, SERVER, UNKNOWN = 1, 2, 3  # enum role
EPHEMERAL = 32768
HERE4, THERE4 = "192.0.2.1", "198.51.100.7"
HERE6, THERE6 = "2001:db8::1", "2001:db8:2::7"
ARP = 0x0806

# what is received from a client; (role, port, peer, local) and the bytes are told of it
Told = dict[tuple[int, int, str, str], tuple[int, int, int, int]]


@pytest.fixture(scope="module")
def programs(bpf_objects: Path) -> Iterator[Object]:
    obj = Object(bpf_objects / "flows.bpf.o")
    Flows(Together(), Peers(256, 300), Drops(Together()), udp=True).configure(obj)
    obj.set("targ_ephemeral", EPHEMERAL)
    obj.load()
    yield obj
    obj.close()


@pytest.fixture
def flows(programs: Object) -> Object:
    for key in list(programs.map("flows").keys()):
        programs.map("flows").delete(key)
    programs.set("lost", 0)
    return programs


def between(packet: bytes, source: str, destination: str) -> bytes:
    """A packet of ours with other addresses."""
    at = 12 if packet[0] >> 4 == 4 else 8
    addresses = b"".join(ipaddress.ip_address(each).packed for each in (source, destination))
    return packet[:at] + addresses + packet[at + len(addresses) :]


def told(flows: Object) -> Told:
    """By series: bytes sent and received, datagrams sent and received."""
    found = {}
    for raw, value in flows.map("flows").items():
        protocol, role, port, overflow, peer, local = flow_series.KEY.unpack(raw)
        assert (protocol, overflow) == (UDP, 0)
        addresses = [ipaddress.IPv6Address(each) for each in (peer, local)]
        shown = [str(each.ipv4_mapped or each) for each in addresses]
        _, sent, received, _, _, _, out, into, *_ = flow_series.figures(value)
        found[role, port, shown[0], shown[1]] = sent, received, out, into
    assert flows.get("lost") == bytes(8)
    return found


ASKED = udp(b"x" * 100, 40000, 53)
FRAMES: dict[str, Callable[[bytes], bytes]] = {
    "IPv4": lambda s: ipv4(s, protocol=UDP),
    "IPv4 with options": lambda s: ipv4(s, b"\1" * 8, UDP),
    "IPv4 with forty bytes of options": lambda s: ipv4(s, b"\1" * 40, UDP),
    "IPv6": lambda s: ipv6(s, protocol=UDP),
    "IPv6, hop-by-hop": lambda s: ipv6(s, [HOP_BY_HOP], UDP),
    "IPv6, routing": lambda s: ipv6(s, [ROUTING], UDP),
    "IPv6, four headers": lambda s: ipv6(s, [HOP_BY_HOP, OPTIONS, ROUTING, OPTIONS], UDP),
}


@pytest.mark.parametrize("frame", FRAMES)
def test_a_datagram_and_its_answer(flows: Object, frame: str) -> None:
    packet = FRAMES[frame](ASKED)
    protocol, here, there = (IPV4, HERE4, THERE4) if packet[0] >> 4 == 4 else (IPV6, HERE6, THERE6)
    assert run(flows.program("udp_ingress"), between(packet, there, here), protocol) == 1
    assert told(flows) == {(SERVER, 53, there, here): (0, 100, 0, 1)}
    packet = FRAMES[frame](udp(b"y" * 300, 53, 40000))
    assert run(flows.program("udp_egress"), between(packet, here, there), protocol) == 1
    assert told(flows) == {(SERVER, 53, there, here): (300, 100, 1, 1)}


OTHERS = {
    "TCP": (ipv4(tcp(b"x" * 100, 1, 1)), IPV4),
    "TCP behind options": (ipv4(tcp(b"x" * 100, 1, 1), b"\1" * 8), IPV4),
    "TCP on IPv6": (ipv6(tcp(b"x" * 100, 1, 1)), IPV6),
    "TCP behind headers of IPv6": (ipv6(tcp(b"x" * 100, 1, 1), [HOP_BY_HOP, OPTIONS]), IPV6),
    "a part of a datagram": (ipv6(ASKED, [FRAGMENT], UDP), IPV6),
    "what is encrypted": (ipv6(ASKED, [ESP], UDP), IPV6),
    "more headers than are looked behind": (ipv6(ASKED, [OPTIONS] * 5, UDP), IPV6),
    "a datagram whose ports are cut": (ipv4(ASKED[:3], protocol=UDP), IPV4),
    "a datagram whose ports are cut, of IPv6": (ipv6(ASKED[:2], protocol=UDP), IPV6),
    **{
        f"a header of {length} bytes, of {name}": (frame(ASKED[:length]), protocol)
        for length in range(4, 8)
        for name, frame, protocol in (
            ("IPv4", FRAMES["IPv4"], IPV4),
            ("IPv6 behind options", FRAMES["IPv6, hop-by-hop"], IPV6),
        )
    },
    "headers that are cut": (ipv6(ASKED, [HOP_BY_HOP], UDP)[:41], IPV6),
    "no IP": (ipv4(ASKED, protocol=UDP), ARP),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("direction", ["udp_ingress", "udp_egress"])
def test_what_is_no_datagram_is_let_through_and_not_counted(
    flows: Object, other: str, direction: str
) -> None:
    packet, protocol = OTHERS[other]
    assert run(flows.program(direction), packet, protocol) == 1
    assert told(flows) == {}


@pytest.mark.parametrize(
    ("local", "peer", "role", "port"),
    [
        (53, 40000, SERVER, 53),
        (40000, 53, CLIENT, 53),
        (EPHEMERAL - 1, EPHEMERAL, SERVER, EPHEMERAL - 1),
        (EPHEMERAL, EPHEMERAL - 1, CLIENT, EPHEMERAL - 1),
        (123, 123, UNKNOWN, 0),
        (40000, 50000, UNKNOWN, 0),
    ],
)
@pytest.mark.parametrize("sends", [False, True])
def test_who_serves_whom(
    flows: Object, local: int, peer: int, role: int, port: int, sends: bool
) -> None:
    ports = (local, peer) if sends else (peer, local)
    ends = (HERE4, THERE4) if sends else (THERE4, HERE4)
    packet = between(ipv4(udp(b"x" * 7, *ports), protocol=UDP), *ends)
    assert run(flows.program("udp_egress" if sends else "udp_ingress"), packet, IPV4) == 1
    counted = (7, 0, 1, 0) if sends else (0, 7, 0, 1)
    assert told(flows) == {(role, port, THERE4, HERE4): counted}


@pytest.mark.parametrize("length", [0, 1, 1472, 3000])
def test_bytes_are_those_of_the_payload(flows: Object, length: int) -> None:
    packet = ipv4(udp(b"x" * length, 40000, 53), b"\1" * 4, UDP)
    assert run(flows.program("udp_ingress"), packet, IPV4) == 1
    assert list(told(flows).values()) == [(0, length, 0, 1)]


def test_what_is_sent_or_received_as_one_is_as_many_datagrams_as_it_holds(flows: Object) -> None:
    packet = ipv4(udp(b"x" * 3000, 53, 40000), protocol=UDP)
    assert run(flows.program("udp_egress"), packet, IPV4, segments=3) == 1
    assert run(flows.program("udp_ingress"), packet, IPV4, segments=1) == 1
    assert sorted(told(flows).values()) == [(0, 3000, 0, 1), (3000, 0, 3, 0)]


def test_repeated_datagrams_and_other_peers_are_told_apart(flows: Object) -> None:
    for peer in (THERE4, THERE4, "203.0.113.5"):
        packet = between(ipv4(ASKED, protocol=UDP), peer, HERE4)
        assert run(flows.program("udp_ingress"), packet, IPV4) == 1
    assert told(flows) == {
        (SERVER, 53, THERE4, HERE4): (0, 200, 0, 2),
        (SERVER, 53, "203.0.113.5", HERE4): (0, 100, 0, 1),
    }
