"""The kernel's tables of routes in, whether an address is of another network out."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.linux import listeners, routes
from tests.cases.recorded import Machine

ROUTE = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
eth0	000200C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
docker0	000011AC	00000000	0001	0	0	0	0000FFFF	0	0	0
tun0	0000000A	00000000	0001	0	0	0	000000FF	0	0	0
eth0	0000400A	010200C0	0003	0	0	0	0000C0FF	0	0	0
"""
IPV6_ROUTE = """\
fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000002 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000003 00000000 00000003     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
"""  # noqa: E501


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    found = Machine(tmp_path)  # which is 192.0.2.2
    for name, text in (("route", ROUTE), ("ipv6_route", IPV6_ROUTE)):
        (tmp_path / "1000/net" / name).write_text(text)
    return found


@pytest.mark.parametrize(
    ("address", "away"),
    [
        ("127.0.0.5", False),
        ("192.0.2.2", False),  # its own
        ("192.0.2.9", False),  # a neighbour; it may be a container with an address of the network
        ("172.17.0.2", False),  # of docker's bridge
        ("10.1.2.3", False),  # a tunnel has no gateway
        ("10.64.0.1", True),  # a part of that network which has one
        ("198.51.100.7", True),
        ("::1", False),
        ("fd00::7", False),
        ("2001:db8::7", True),
    ],
)
def test_what_has_a_gateway_is_elsewhere(machine: Machine, address: str, away: bool) -> None:
    assert routes.leads_away(ip_address(address), machine.procfs) == away


def test_what_no_route_leads_to_is_elsewhere_if_there_are_routes(machine: Machine) -> None:
    table = machine.root / "1000/net/route"
    table.write_text("\n".join(ROUTE.splitlines()[:1] + ROUTE.splitlines()[2:]))
    assert routes.leads_away(ip_address("198.51.100.7"), machine.procfs)
    table.unlink()
    assert not routes.leads_away(ip_address("198.51.100.7"), machine.procfs)


def test_a_url_elsewhere_is_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    routes.require_here("http://127.0.0.1:8080/", machine.procfs)
    with pytest.raises(InputError, match=r"198\.51\.100\.7/ is not on this machine"):
        routes.require_here("http://198.51.100.7/", machine.procfs)
    both = [ip_address("198.51.100.7"), ip_address("192.0.2.2")]
    monkeypatch.setattr(listeners, "resolved", lambda _: both)
    routes.require_here("http://balanced/", machine.procfs)
    monkeypatch.setattr(listeners, "resolved", lambda _: [])
    with pytest.raises(InputError, match="nobody is the name of no address here"):
        routes.require_here("http://nobody:80/", machine.procfs)
