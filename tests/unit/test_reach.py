"""Where load from another node goes: not to what only this machine reaches."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import InputError
from harness.linux import listeners
from harness.linux.listeners import Listening
from harness.node import reach
from harness.wire.spec import Elsewhere

OUTSIDE = "http://192.0.2.7:8080/"


def _service(url: str) -> Any:
    return SimpleNamespace(name="shop", url=url, cgroup=Path("/c"), pids=lambda: [1])


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets the service listen on these addresses, at port 8080."""

    def on(*addresses: str) -> None:
        found = [Listening(ip_address(each), 8080, i) for i, each in enumerate(addresses)]
        monkeypatch.setattr(listeners, "held", lambda _: found)

    monkeypatch.setattr(reach, "check_scope", lambda url, cgroup: f"{cgroup} cannot tell {url}")
    return on


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.7", "::"])
def test_the_service_s_own_url_is_taken(listening: Any, address: str) -> None:
    listening(address)
    assert reach.url_from(Elsewhere("ssh:far"), _service(OUTSIDE)) == (OUTSIDE, "")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/", OUTSIDE, "http://localhost:8080/"])
@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["::1", "127.0.0.2"]])
def test_a_service_on_loopback_only_is_refused(
    listening: Any, url: str, addresses: list[str]
) -> None:
    listening(*addresses)
    for elsewhere in (Elsewhere("ssh:far"), Elsewhere("ssh:far", OUTSIDE)):
        with pytest.raises(InputError, match=r"'shop' listens on .*:8080 only\.") as refused:
            reach.url_from(elsewhere, _service(url))
        assert "ssh:far" in refused.value.why
        assert "--load-url" in refused.value.next_step


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/", "http://[::1]:8080/"])
def test_a_url_that_leads_each_machine_to_itself_is_refused(listening: Any, url: str) -> None:
    listening("0.0.0.0")
    with pytest.raises(InputError, match="leads each machine to itself"):
        reach.url_from(Elsewhere("ssh:far"), _service(url))
    with pytest.raises(InputError, match="leads each machine to itself"):
        reach.url_from(Elsewhere("ssh:far", url), _service(OUTSIDE))


def test_another_url_than_the_service_s_own_is_looked_up_like_that(listening: Any) -> None:
    listening("0.0.0.0")
    found = reach.url_from(Elsewhere("ssh:far", OUTSIDE), _service("http://127.0.0.1:8080/"))
    assert found == (OUTSIDE, f"/c cannot tell {OUTSIDE}")
