"""Who takes a role of the stack: who is there already, then the first that can be got."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.errors import InputError, NeedError
from harness.stack import selection, supply
from harness.stack.catalog import Archive, Component, OnPath
from harness.stack.selection import Role

ZEROS = "0" * 64


def component(name: str, signal: str = "traces", archive: bool = False) -> Component:
    """One that comes from PATH, or also from an archive that cannot be reached."""
    ways: tuple[OnPath | Archive, ...] = (OnPath((name,), "1.0"),)
    if archive:
        hashes = {"amd64": ZEROS, "arm64": ZEROS}
        ways += (Archive("http://127.0.0.1:9/{version}.tar.gz", hashes, name),)
    return Component(name, name.title(), "1.2", "Apache-2.0", ways, signal)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def install(path: Path, name: str) -> None:
    (path / name).write_text("#!/bin/sh\necho 1.5\n")
    (path / name).chmod(0o755)


def test_who_is_there_already_comes_before_who_is_to_be_got(path: Path) -> None:
    role = Role("traces", (component("first", archive=True), component("second")))
    (choice,) = selection.plan([role], supply.cache())
    assert (choice.component.name, choice.offer is not None) == ("first", True)
    install(path, "second")
    (choice,) = selection.plan([role], supply.cache())
    assert choice.component.name == "second"
    install(path, "first")
    (choice,) = selection.plan([role], supply.cache())
    assert choice.component.name == "first"


def test_one_that_cannot_be_got_after_all_gives_way_and_is_told(path: Path) -> None:
    install(path, "third")
    role = Role("traces", (component("first"), component("second", archive=True)))
    told: list[str] = []
    with pytest.raises(NeedError, match=r"Nothing can keep .* no First and no Second") as e:
        selection.get(role, supply.cache(), told.append)
    assert "cannot be fetched" in str(e.value)
    both = dataclasses.replace(role, candidates=(*role.candidates, component("third")))
    taken = selection.get(both, supply.cache(), told.append)
    assert taken is not None
    assert taken[0].name == "third"
    assert told[-1].startswith("Third keeps the traces. First, on PATH: no first.")


def test_an_optional_role_may_be_taken_by_nobody(path: Path) -> None:
    role = Role("extra", (component("extra", ""),), optional=True)
    assert selection.get(role, supply.cache(), lambda _: None) is None
    (choice,) = selection.plan([role], supply.cache())
    assert choice.offer is None
    selection.require_all([role])
    with pytest.raises(NeedError, match=r"Extra cannot be had on this machine. on PATH: no extra"):
        selection.require_all([dataclasses.replace(role, optional=False)])


def test_who_is_required_is_the_only_candidate() -> None:
    roles = {role.name: role for role in selection.select(["tempo", "grafana"])}
    assert list(roles) == ["otelcol", "metrics", "traces", "logs", "grafana"]
    assert [one.name for one in roles["traces"].candidates] == ["tempo"]
    assert len(roles["logs"].candidates) == 2
    assert not roles["grafana"].optional
    assert {r.name for r in selection.select([]) if r.optional} == {"grafana"}
    with pytest.raises(InputError, match="One component keeps the logs, and 2 are required"):
        selection.select(["loki", "victorialogs"])
    with pytest.raises(InputError, match="There is no component 'tmepo'"):
        selection.select(["tmepo"])
