"""The kernel's tables of sockets in, who listens out."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from harness.linux import listeners
from harness.linux.listeners import Listening
from tests.cases.recorded import Machine, Network

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:954F 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 27885 1 00000000852ca828 100 0 0 10 0
   1: 00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1135 1 00000000d3bf4aee 100 0 0 10 0
   2: 0100007F:954F 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 27901 1 0000000012345678 20 4 30 10 -1
"""  # noqa: E501
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 300 1 0 100 0 0 10 0
   1: B80D01200000000000000000020000FD:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 301 1 0 100 0 0 10 0
   2: 0000000000000000FFFF00000100007F:0051 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 302 1 0 100 0 0 10 0
"""  # noqa: E501


def test_listening_sockets_are_read_and_connections_are_not() -> None:
    assert listeners.parse(TCP) == [
        Listening(ip_address("127.0.0.1"), 38223, 27885),
        Listening(ip_address("0.0.0.0"), 2024, 1135),
    ]


def test_addresses_of_ipv6_are_read_and_ipv4_written_as_ipv6_is_ipv4() -> None:
    assert [str(each) for each in listeners.parse(TCP6)] == [
        "[::]:8080",
        "[2001:db8::fd00:2]:80",
        "127.0.0.1:81",
    ]


@pytest.mark.parametrize(
    ("address", "inodes"),
    [
        ("127.0.0.1", {1}),  # bound to it
        ("192.0.2.2", {2, 5}),  # all of IPv4, before all of IPv6; two share it
        ("::1", {3}),  # all of IPv6
        ("2001:db8::1", {4}),
    ],
)
def test_the_nearest_socket_is_chosen(address: str, inodes: set[int]) -> None:
    places = [("127.0.0.1", 1), ("0.0.0.0", 2), ("::", 3), ("2001:db8::1", 4), ("0.0.0.0", 5)]
    sockets = [Listening(ip_address(at), 80, inode) for at, inode in places]
    sockets += [Listening(ip_address(address), 81, 9)]
    assert {s.inode for s in listeners.chosen(sockets, ip_address(address), 80)} == inodes


def test_a_socket_for_all_of_ipv6_takes_connections_of_ipv4() -> None:
    both = Listening(ip_address("::"), 80, 1)
    assert listeners.chosen([both], ip_address("127.0.0.1"), 80) == [both]
    assert listeners.chosen([both], ip_address("127.0.0.1"), 81) == []


def test_every_holder_of_a_socket_is_found(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Network(1, (), (("127.0.0.1", 80, 77),)))
    machine.process(20, "master", sockets=[5, 77])
    machine.process(21, "worker", parent=20, sockets=[77])
    machine.process(22, "client", sockets=[6])
    (socket,) = listeners.listening("self", machine.procfs)
    assert listeners.holders([socket], machine.procfs) == {socket: {20, 21}}


def test_what_processes_listen_on_is_told_for_each_network_namespace(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Network(1, (), (("127.0.0.1", 80, 77),)))
    inner = Network(2, ("172.17.0.2",), (("0.0.0.0", 8080, 88), ("0.0.0.0", 9090, 99)))
    machine.process(20, "app", sockets=[88], network=inner)
    machine.process(21, "other", sockets=[99], network=inner)
    machine.process(22, "third", sockets=[77])
    told = [str(each) for each in listeners.held([20, 22], machine.procfs)]
    assert told == ["0.0.0.0:8080", "127.0.0.1:80"]


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),  # the whole of 127/8 is local
        ("192.0.2.2", True),
        ("192.0.2.3", False),
        ("::1", True),
        ("2001:db8::1", False),
    ],
)
def test_own_addresses_are_told_from_those_of_others(
    tmp_path: Path, address: str, local: bool
) -> None:
    machine = Machine(tmp_path)
    assert listeners.is_local(ip_address(address), "self", machine.procfs) is local


def test_this_machine_knows_its_own_addresses() -> None:
    assert listeners.is_local(ip_address("127.0.0.1"))
    assert not listeners.is_local(ip_address("198.51.100.1"))
    assert listeners.resolved("127.0.0.1") == [ip_address("127.0.0.1")]
    assert listeners.resolved("no.such.host.invalid") == []
