"""A login in a URL: for the load driver, and for no reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InputError
from harness.plan import url, workloads

SECRET = "s3cr%2Ft"
URL = f"http://me:{SECRET}@127.0.0.1:8080/page?x=1"
PLACE = "http://127.0.0.1:8080/page?x=1"


def test_a_login_is_taken_off() -> None:
    assert url.address(URL) == ("127.0.0.1", 8080)
    assert url.without_login(URL) == (PLACE, f"me:{SECRET}")
    assert url.without_login("http://token@h/") == ("http://h/", "token")
    assert url.without_login("http://h/?mail=a@b") == ("http://h/?mail=a@b", "")
    assert url.hidden(URL) == "http://***@127.0.0.1:8080/page?x=1"
    assert url.hidden(PLACE) == PLACE


@pytest.mark.parametrize(
    "bad", [f"http://me:{SECRET}/x@h:1/", f"me:{SECRET}@h", f"http://me:{SECRET}@h:port/",
            f"ftp://me:{SECRET}@h/", f"http://me:{SECRET}@[::1/"],
)  # fmt: skip
def test_an_error_does_not_tell_it(bad: str) -> None:
    with pytest.raises(InputError, match="not a URL of a service") as raised:
        url.address(bad)
    assert SECRET not in str(raised.value)
    assert raised.value.__suppress_context__


def test_a_program_of_ones_own_keeps_it_in_memory_only(tmp_path: Path) -> None:
    mine = workloads.own("PORT={port} true {port}", URL)
    assert (mine.url, mine.login) == (PLACE, f"me:{SECRET}")
    assert (mine.command, mine.environment) == (("true", "{port}"), {"PORT": "{port}"})
    assert SECRET not in repr(mine)
    assert SECRET not in str(mine.to_dict())


def test_a_run_that_is_resumed_asks_for_it_again() -> None:
    stored = workloads.own("true", URL).to_dict()
    assert workloads.again(stored, URL) == workloads.own("true", URL)
    for given in ("", PLACE, URL.replace("8080", "8081")):
        with pytest.raises(InputError, match="login, which is not kept") as raised:
            workloads.again(stored, given)
        assert SECRET not in str(raised.value)


def test_a_run_without_a_login_takes_none() -> None:
    plain = workloads.own("true", PLACE)
    assert workloads.again(plain.to_dict()) == plain
    with pytest.raises(InputError, match="without a login"):
        workloads.again(plain.to_dict(), URL)
