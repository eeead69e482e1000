"""Which images are brought to machines, and how; with hosts that only note what they are told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.errors import CommandError, NeedError
from harness.linux.processes import Completed
from harness.targets.vm import nodes
from harness.targets.vm.inventory import Host
from harness.targets.vm.nodes import Nodes

OURS = "localhost/harness-node:1"
DOCKER = """
echo "$@" >>"$0.done"
case "$1" in
image) [ "$5" != docker.io/library/rare:1 ] && echo sha256:1 || exit 1;;
save) echo "$@" >"${2#--output=}";;
esac
"""


class Line:
    """A connection to a host that has these images."""

    def __init__(self, *there: str, said: str = "", code: int = 0) -> None:
        self.there, self.said, self.code = there, said, code
        self.taken: list[str] = []
        self.closed = False

    def run(self, *command: str, timeout: float, file: Path | None = None) -> Completed:
        assert command[:2] == ("sh", "-c")
        assert command[4:7] == ("ctr", "--namespace=k8s.io", "images")
        if file is not None:
            assert command[7:] == ("import", "-")
            self.taken.append(file.read_text())
        return Completed(command, self.code, "\n".join(self.there), self.said)

    def open(self) -> None: ...

    def argv(self, *command: str) -> list[str]:
        return ["ssh", *command]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the local docker was told."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    place = tmp_path / "docker"
    place.write_text(f"#!/bin/sh\n{DOCKER}\n")
    place.chmod(0o755)
    return tmp_path / "docker.done"


def reached(monkeypatch: pytest.MonkeyPatch, lines: Mapping[str, Line]) -> Nodes:
    monkeypatch.setattr(Host, "connection", lambda host: lines[host.name])
    return Nodes([Host(name) for name in lines])


def test_only_what_is_missing_goes_to_who_lacks_it(
    told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = {
        "full": Line(OURS, "docker.io/prom/prometheus:v3", "docker.io/library/debian:12"),
        "bare": Line("docker.io/library/debian:12"),
    }
    said: list[str] = []
    wanted = [OURS, "docker.io/prom/prometheus:v3", "debian:12", "docker.io/library/rare:1"]
    with nodes.reached([]):
        pass
    there = reached(monkeypatch, lines)
    assert there.load(wanted, said.append) == wanted[:3]  # the local docker has no more
    assert lines["full"].taken == []
    (archive,) = lines["bare"].taken
    assert archive.split()[2:] == ["docker.io/prom/prometheus:v3", OURS]
    assert said == ["loading 2 images (0 MiB) into bare"]


def test_where_all_have_all_nothing_is_saved(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = reached(monkeypatch, {"full": Line(OURS)})
    assert there.load([OURS], print) == [OURS]
    assert there.nodes_without([OURS]) == []
    assert there.nodes_without(["x"]) == ["full"]
    assert "save" not in told.read_text()


def test_an_archive_can_be_poured_in(monkeypatch: pytest.MonkeyPatch) -> None:
    there = reached(monkeypatch, {"box": Line()})
    argv = there.taking("box")
    assert (argv[0], argv[-2:]) == ("ssh", ["import", "-"])
    assert "sudo -n" in argv[3]


@pytest.mark.parametrize(
    ("said", "kind", "what"),
    [
        ("sudo: a password is required", NeedError, "sudo on box asks for a password"),
        ("ctr: no space left on device", CommandError, "`ctr images ls` failed on box"),
    ],
)
def test_what_is_refused_is_said(
    monkeypatch: pytest.MonkeyPatch, said: str, kind: type[Exception], what: str
) -> None:
    there = reached(monkeypatch, {"box": Line(said=said, code=1)})
    with pytest.raises(kind, match=what) as caught:
        there.nodes_without([OURS])
    assert said in str(caught.value)


def test_it_hangs_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line()
    monkeypatch.setattr(Host, "connection", lambda _: line)
    with nodes.reached([Host("box")]):
        assert not line.closed
    assert line.closed
