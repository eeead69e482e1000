"""How the stack's processes are started, noted and ended, with small programs in their place."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import ComponentError, InputError, NeedError
from harness.linux import cgroup, mount, processes
from harness.stack import catalog, config, ledger, lifecycle, readback, supervisor, supply
from harness.stack.catalog import Component, OnPath
from harness.stack.config import Program, Stack
from harness.stack.selection import Role

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to make cgroups"),
]

SERVER = """#!{python}
import os, subprocess, sys
from http.server import HTTPServer, SimpleHTTPRequestHandler
if "--version" in sys.argv:
    sys.exit(print("1.0"))
subprocess.Popen(["sleep", "600"])  # what a component starts is in its cgroup too
print("here", os.environ["SERVER_GREETING"], flush=True)
HTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()
"""
BROKEN = """#!/bin/sh
[ "$1" = --version ] && echo 1.0 && exit
echo the configuration is wrong >&2
exit 3
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A stack of one component, `server`, whose state, files and cache are the test's."""
    root = mount.find("cgroup2")
    assert root is not None
    monkeypatch.setattr(ledger, "DIRECTORY", tmp_path / "run" / "stack")
    monkeypatch.setattr(lifecycle, "GROUP", f"stack-test-{os.getpid()}")
    monkeypatch.setattr(readback, "prove", lambda stack: [])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Program(
        lambda stack: {"bind": stack.bind},
        lambda stack: [str(port)],
        lambda stack: f"http://127.0.0.1:{port}/",
        files=lambda stack: {"more/rules.yaml": {"groups": []}},
        environment=lambda stack: {"SERVER_GREETING": "hello"},
        secrets=("server-password",),
    )
    component = replace(COMPONENT, ports={"http": port})
    monkeypatch.setattr(catalog, "known", lambda: {**catalog.load(), "server": component})
    monkeypatch.setattr(config, "PROGRAMS", {"server": program})
    monkeypatch.setattr(lifecycle, "PROGRAMS", config.PROGRAMS)
    _install(tmp_path, SERVER.format(python=sys.executable))
    yield tmp_path
    lifecycle.down()


def _install(place: Path, text: str) -> None:
    (place / "server").write_text(text)
    (place / "server").chmod(0o755)


COMPONENT = Component("server", "Server", "1", "MIT", (OnPath(("server",), "0"),))


def _role() -> Role:
    return Role("server", (catalog.known()["server"],))


def _up(place: Path, *others: Role) -> tuple[Stack, list[str]]:
    told: list[str] = []
    stack = Stack(lifecycle.home())
    started = lifecycle.up(stack, [*others, _role()], told.append)
    assert list(started.ready) == ["server"]
    assert 0 < started.ready["server"] <= started.seconds
    return started.stack, told


def _nothing_is_left(place: Path) -> None:
    own, unit = supervisor.address(lifecycle.GROUP, "server")
    assert not own.parent.exists()
    if unit:
        listed = ["systemctl", "list-units", "--all", "--plain", "--no-legend", unit]
        assert processes.run(listed).stdout == ""
    assert ledger.state() is None
    assert not (place / "run").exists()


def test_up_and_down(place: Path) -> None:
    stack, told = _up(place)
    assert [line.partition(" after")[0] for line in told] == ["server is ready"]
    now = ledger.state()
    assert now is not None
    (server,) = now.components
    assert server.pid in cgroup.processes(Path(server.cgroup))
    assert len(cgroup.processes(Path(server.cgroup))) == 2
    assert os.getsid(server.pid) == server.pid  # no terminal's Ctrl-C reaches it
    assert Path(server.log).read_text().startswith("here hello")
    assert stack.file("server").exists()
    assert (stack.folder / "more" / "rules.yaml").exists()
    assert (stack.folder / "server-password").stat().st_mode & 0o777 == 0o600
    assert len(lifecycle.down()) == 2
    assert not Path(f"/proc/{server.pid}/exe").exists()
    assert not (place / "state" / "harness").exists()
    _nothing_is_left(place)
    assert lifecycle.down() == []


def test_a_second_up_is_refused_and_spares_the_first(place: Path) -> None:
    _up(place)
    before = ledger.state()
    with pytest.raises(NeedError, match="up already"):
        _up(place)
    assert ledger.state() == before
    assert before is not None
    assert cgroup.processes(Path(before.components[0].cgroup))


def test_an_optional_component_that_cannot_be_had_is_left_out(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program,) = config.PROGRAMS.values()
    monkeypatch.setitem(config.PROGRAMS, "extra", program)
    extra = Component("extra", "Extra", "1", "MIT", (OnPath(("no-such-program",), "0"),))
    _up(place, Role("extra", (extra,), optional=True))
    now = ledger.state()
    assert now is not None
    assert [one.name for one in now.components] == ["server"]


def test_a_stack_that_is_up_is_borrowed_and_stays_up(place: Path) -> None:
    stack, _ = _up(place)
    told: list[str] = []
    with lifecycle.borrowed(told.append, ["server"]) as borrowed:
        assert borrowed == stack
    assert told == []
    assert ledger.state() is not None
    with pytest.raises(NeedError, match="has no tempo"), lifecycle.borrowed(told.append, ["tempo"]):
        pass


def test_a_stack_that_is_not_whole_is_not_borrowed(place: Path) -> None:
    _up(place)
    now = ledger.state()
    assert now is not None
    cgroup.empty(Path(now.components[0].cgroup))
    with (
        pytest.raises(ComponentError, match="server ended"),
        lifecycle.borrowed(lambda _: None),
    ):
        pass
    assert ledger.state() == now


def test_where_none_is_up_one_is_started_and_taken_down(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "select", lambda _: [_role()])
    told: list[str] = []
    with lifecycle.borrowed(told.append) as borrowed:
        assert borrowed.folder == lifecycle.home()
        assert ledger.state() is not None
    assert told[-1] == f"{lifecycle.home()} was removed."
    _nothing_is_left(place)
    with pytest.raises(ZeroDivisionError), lifecycle.borrowed(told.append):
        _ = 1 / 0
    _nothing_is_left(place)
    assert (lifecycle.home() / "logs" / "server.log").exists()  # to find out why


def test_a_component_that_ends_says_its_last_words(place: Path) -> None:
    _install(place, BROKEN)
    with pytest.raises(ComponentError, match=r"server ended.*the configuration is wrong"):
        _up(place)
    _nothing_is_left(place)
    assert (place / "state" / "harness" / "stack" / "logs" / "server.log").exists()
    assert lifecycle.down() == [f"{lifecycle.home()} was removed."]
    assert not (place / "state" / "harness").exists()


def test_a_taken_port_stops_before_anything_starts(place: Path) -> None:
    port = catalog.known()["server"].ports["http"]
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(
            NeedError, match=rf"server cannot listen on 127.0.0.1:{port}.*{os.getpid()}"
        ):
            _up(place)
    _nothing_is_left(place)
    assert not (place / "state" / "harness").exists()


def test_a_killed_component_is_started_again(place: Path) -> None:
    stack, _ = _up(place)
    now = ledger.state()
    assert now is not None
    (server,) = now.components
    with pytest.raises(NeedError, match="still runs"):
        lifecycle.restart("server")
    cgroup.empty(Path(server.cgroup))
    again = lifecycle.restart("server")
    assert again.pid != server.pid
    lifecycle.await_ready(stack, "server")
    with pytest.raises(NeedError, match="was not started"):
        lifecycle.restart("other")


def test_a_required_component_that_cannot_be_had_is_an_error(place: Path) -> None:
    if supply.choose(_grafana(), supply.cache()) is not None:
        pytest.skip("Grafana is on PATH")
    with pytest.raises(NeedError, match=r"Grafana cannot be had"):
        lifecycle.require_all([r for r in lifecycle.select(["grafana"]) if r.name == "grafana"])
    lifecycle.require_all([r for r in lifecycle.select([]) if r.name == "grafana"])
    with pytest.raises(InputError, match=r"One component keeps the traces, and 2 are required"):
        lifecycle.select(["tempo", "jaeger"])
    with pytest.raises(InputError, match="no component 'graphana'"):
        lifecycle.select(["graphana"])


def test_the_others_are_ended_when_one_cannot_be(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _up(place)
    now = ledger.state()
    assert now is not None
    (server,) = now.components
    ledger.note(replace(server, name="stuck", cgroup="/none"))
    ended = supervisor.end

    def end(running: ledger.Running) -> str:
        if running.name == "stuck":
            raise ComponentError("stuck cannot be ended.")
        return ended(running)

    monkeypatch.setattr(supervisor, "end", end)
    with pytest.raises(ComponentError, match="stuck cannot be ended"):
        lifecycle.down()
    assert not Path(server.cgroup).exists()
    assert ledger.state() is not None  # so that down can be tried again
    monkeypatch.setattr(supervisor, "end", ended)
    assert "stuck had ended." in lifecycle.down()
    _nothing_is_left(place)


def test_only_root_takes_it_down(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _up(place)
    with monkeypatch.context() as other:
        other.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(NeedError, match="Root is needed"):
            lifecycle.down()
    assert ledger.state() is not None


def test_a_state_of_another_version_is_a_sentence(place: Path) -> None:
    ledger.claim(lifecycle.home(), "127.0.0.1")
    path = ledger.DIRECTORY / "state.json"
    path.write_text(path.read_text().replace("bind", "bound"))
    with pytest.raises(NeedError, match="cannot be read"):
        lifecycle.down()
    ledger.forget()


def _grafana() -> Component:
    return catalog.load()["grafana"]
