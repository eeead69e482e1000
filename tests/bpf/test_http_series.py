"""Which series `http` keeps: routes of paths, and what gives way where there is no more room."""

from __future__ import annotations

import http.client
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bpf.http_asked import ask, connected, serve
from tests.bpf.http_seen import counted

pytestmark = pytest.mark.bpf


@pytest.fixture
def connection(service: Any) -> Iterator[http.client.HTTPConnection]:
    with connected(serve(service)) as connection:
        yield connection


ROUTES = [
    ("/", "/"),
    ("/api/users/42", "/api/users/{id}"),
    ("/api/users/42/cards/7?a=/1/2", "/api/users/{id}/cards/{id}"),
    ("/o/550e8400-e29b-41d4-a716-446655440000/x", "/o/{id}/x"),
    ("/o/d41d8cd98f00b204e9800998ecf8427e", "/o/{id}"),
    ("/day/2026-11-22", "/day/{id}"),
    ("/cafe/deadbeef", "/cafe/deadbeef"),
    ("/v1/x2/3d", "/v1/x2/3d"),
    ("/a//b/", "/a//b/"),
    ("/customers/cus_9s6XKzkNRiz8/cards", "/customers/{id}/cards"),
    ("/o/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/o/{id}"),
    ("/files/Report2024.PDF", "/files/Report2024.PDF"),
    ("/login/OAuth2", "/login/OAuth2"),
    ("/getUserByName", "/getUserByName"),
    ("/shop/cart;jsessionid=0A1B2C3D?a=1", "/shop/cart"),
    ("/users/42;v=2/cards;x=/7", "/users/{id}/cards/{id}"),
    ("/" + "l" * 100, "/" + "l" * 55),
    ("/" + "l" * 60 + "/42", "/" + "l" * 55),
    ("/1/2/3/4/5/6/7/8/9/10/11/12/13", "/{id}" * 11 + "/"),
]


def test_routes(start_agent: Any, receiver: Any, connection: http.client.HTTPConnection) -> None:
    agent = start_agent("http")
    for path, _ in ROUTES:
        ask(connection, "GET", path)
    agent.call("flush")
    expected = Counter(("GET", route, 200) for _, route in ROUTES)
    assert counted(receiver) == expected


def test_more_routes_than_there_is_room_for(
    start_agent: Any, receiver: Any, connection: http.client.HTTPConnection
) -> None:
    agent = start_agent("http")
    for number in range(530):
        ask(connection, "GET", f"/page-x{number}")
    assert agent.call("flush")["lost"] == 0
    found = counted(receiver)
    assert sum(found.values()) == 530
    assert found[("GET", "other", 200)] == 530 - 512


@pytest.mark.parametrize("status", [401, 403, 404, 429])
def test_a_scanner_does_not_take_the_room_of_routes(
    start_agent: Any, receiver: Any, connection: http.client.HTTPConnection, status: int
) -> None:
    agent = start_agent("http")
    ask(connection, "GET", "/status/200")
    for number in range(600):
        ask(connection, "GET", f"/status/{status}/x{number}x")
    ask(connection, "GET", f"/status/{status}")
    ask(connection, "GET", "/new")
    assert agent.call("flush")["lost"] == 0
    assert counted(receiver) == {
        ("GET", "/status/{id}", 200): 1,
        ("GET", "/status/{id}", status): 1,
        ("GET", "other", status): 600,
        ("GET", "/new", 200): 1,
    }


def test_routes_that_nobody_asks_for_any_more_give_way(
    start_agent: Any, receiver: Any, connection: http.client.HTTPConnection
) -> None:
    agent = start_agent("http", "--interval=600000")
    for number in range(2 * 530):
        ask(connection, "GET", f"/page-x{number // 2}")
    assert agent.call("flush")["events"] == 1060
    for _ in range(22):
        agent.call("flush")
    for _ in range(23):
        ask(connection, "GET", "/new")
    told = agent.call("flush")
    assert (told["events"], told["lost"]) == (1083, 0)
    assert counted(receiver) == {("GET", "/new", 200): 23, ("GET", "other", 200): 36}


def test_routes_that_were_asked_for_once_give_way_first_and_soon(
    start_agent: Any, receiver: Any, connection: http.client.HTTPConnection
) -> None:
    agent = start_agent("http", "--interval=600000")
    for _ in range(2):
        ask(connection, "GET", "/twice")
    for number in range(529):
        ask(connection, "GET", f"/page-x{number}")
    for _ in range(3):  # it is full, what is in it, that nothing was added
        assert agent.call("flush")["events"] == 531
    for _ in range(23):
        ask(connection, "GET", "/new")
    told = agent.call("flush")
    assert (told["events"], told["lost"]) == (554, 0)
    found = counted(receiver)
    assert (found["GET", "/new", 200], found["GET", "/twice", 200]) == (23, 2)
    assert len(found) == 384 + 2  # no more went than room was needed for
