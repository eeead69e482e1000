"""Which Go builds a module: a newer one is fetched once, and used only if it is the pinned one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import ComponentError, NeedError
from harness.stack import catalog, supply, toolchain
from harness.stack.catalog import Component, Module

TOOLCHAIN = "v0.0.1-go1.24.9.linux-amd64"
# A toolchain as the module holds it: nothing is executable, and no go.mod but its own.
GO = """#!/bin/sh
home="$GOMODCACHE/golang.org/toolchain@{toolchain}"
case "$1 $2" in
    "env -json") cat {folder}/env ;;
    "mod download") echo "$PWD $GOTOOLCHAIN $*" >> {folder}/asked
        mkdir -p "$home/bin" "$home/pkg/tool/linux_amd64" "$home/src/cmd"
        cp {folder}/new-go "$home/bin/go"
        echo compiler > "$home/pkg/tool/linux_amd64/compile"
        echo module cmd > "$home/src/cmd/_go.mod"
        cat {folder}/answer ;;
    *) echo "the old Go was asked to $*" >&2; exit 1 ;;
esac
"""
NEW_GO = """#!/bin/sh
test -x "$GOROOT/pkg/tool/linux_amd64/compile" || exit 1
while [ "$1" != -o ]; do shift; done
echo "built by $GOROOT, GOTOOLCHAIN=$GOTOOLCHAIN" > "$2"
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a scripted Go 1.19.8 on PATH; it fetches Go 1.24.9, which is pinned."""
    _set(tmp_path, "go1.19.8", "")
    (tmp_path / "answer").write_text('{"Sum": "h1:right="}')
    (tmp_path / "new-go").write_text(NEW_GO)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "go"
    program.write_text(GO.replace("{folder}", str(tmp_path)).replace("{toolchain}", TOOLCHAIN))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.delenv("GOTOOLCHAIN", raising=False)
    sums = tmp_path / "go.sum"
    sums.write_text(f"golang.org/toolchain {TOOLCHAIN} h1:right=\n")
    monkeypatch.setattr(toolchain, "SUMS", sums)
    return tmp_path


def _set(machine: Path, version: str, setting: str, arch: str = "amd64") -> None:
    told = {"GOVERSION": version, "GOTOOLCHAIN": setting, "GOHOSTARCH": arch}
    (machine / "env").write_text(json.dumps(told))


def _tool(machine: Path, name: str = "tool") -> Component:
    """A component whose module asks for Go 1.24.3."""
    folder = machine / "modules" / name
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text(f"module example.org/{name}\n\ngo 1.24.3\n")
    return Component(name, "Tool", "1.0", "MIT", (Module(".", fetch_mb=5),), modules=folder.parent)


def _refusal(machine: Path) -> str:
    (offer,) = supply.offers(_tool(machine), machine / "cache")
    return offer.refusal


def test_an_old_go_fetches_the_toolchain_once_and_builds_by_it(machine: Path) -> None:
    cache = machine / "cache"
    home = cache / "go" / "mod" / "golang.org" / f"toolchain@{TOOLCHAIN}"
    for name in ("tool", "other"):
        program = supply.get(_tool(machine, name), cache)
        assert program.read_text() == f"built by {home}, GOTOOLCHAIN=local\n"
    asked = (machine / "asked").read_text()
    assert asked == f"/ local mod download -json golang.org/toolchain@{TOOLCHAIN}\n"
    assert (home / "src" / "cmd" / "go.mod").read_text() == "module cmd\n"
    supply.tidy(cache)
    assert not home.exists()


def test_the_plan_says_that_it_is_fetched_until_it_is_there(machine: Path) -> None:
    cache = machine / "cache"
    (offer,) = supply.offers(_tool(machine), cache)
    assert not offer.refusal
    assert offer.size == "fetch 5 MB; Go 1.24.9 from the module proxy, about 70 MB, once"
    supply.get(_tool(machine, "other"), cache)
    (offer,) = supply.offers(_tool(machine, "third"), cache)
    assert offer.size == "fetch 5 MB"


def test_one_that_was_fetched_and_not_finished_is_finished(machine: Path) -> None:
    cache, component = machine / "cache", _tool(machine)
    home = cache / "go" / "mod" / "golang.org" / f"toolchain@{TOOLCHAIN}"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "go").write_text("not executable")
    assert "built by" in supply.get(component, cache).read_text()


def test_one_that_differs_from_its_sum_is_thrown_away_unused(machine: Path) -> None:
    (machine / "answer").write_text('{"Sum": "h1:wrong="}')
    with pytest.raises(ComponentError, match=r"its sum is h1:wrong=.*h1:right= was expected"):
        supply.get(_tool(machine), machine / "cache")
    assert not [path for path in (machine / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("answer", "why"), [('{"Error": "no such host"}', "no such host."), ("", "does not say why.")]
)
def test_a_failed_fetch_says_what_to_do(machine: Path, answer: str, why: str) -> None:
    (machine / "answer").write_text(answer)
    with pytest.raises(NeedError, match=rf"Go 1.24.9 cannot be fetched.*{why}.*GOPROXY"):
        supply.get(_tool(machine), machine / "cache")


def test_a_go_that_is_new_enough_fetches_nothing(machine: Path) -> None:
    _set(machine, "go1.24.3", "local")
    go = toolchain.choose(_tool(machine).modules / "tool" / "go.mod")
    assert (go.toolchain, go.refusal) == ("", "")
    assert "GOROOT" not in toolchain.environment(go, machine / "cache")
    assert not (machine / "asked").exists()


def test_without_any_go_nothing_can_be_fetched(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(machine / "modules"))
    assert _refusal(machine) == "Go is not installed; 1.19 or later will do."


@pytest.mark.parametrize("setting", ["local", "path", "local+path", "go1.22.0"])
def test_an_older_go_that_may_not_fetch_another_is_refused(machine: Path, setting: str) -> None:
    _set(machine, "go1.21.3", setting)
    assert _refusal(machine) == (
        "Go 1.24.3 is needed, 1.21.3 is installed, "
        f"and GOTOOLCHAIN={setting} forbids another; set it to auto."
    )


@pytest.mark.parametrize("setting", ["auto", "local+auto", "go1.22.0+auto"])
def test_an_older_go_that_may_is_not(machine: Path, setting: str) -> None:
    _set(machine, "go1.21.3", setting)
    assert _refusal(machine) == ""


def test_so_is_a_go_that_does_not_know_that_it_may_not(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOTOOLCHAIN", "local")
    assert "1.19.8 is installed, and GOTOOLCHAIN=local forbids" in _refusal(machine)


def test_what_nothing_is_pinned_for_is_refused(machine: Path) -> None:
    _set(machine, "go1.19.8", "", "riscv64")
    assert _refusal(machine).endswith("and none is pinned for riscv64; install it.")


def test_the_pinned_one_is_new_enough_for_every_module(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("PATH", f"{machine / 'bin'}:/usr/bin:/bin")
    for arch in ("amd64", "arm64"):
        _set(machine, "go1.19.8", "", arch)
        for component in catalog.load().values():
            if any(isinstance(way, Module) for way in component.ways):
                go = toolchain.choose(component.modules / component.name / "go.mod")
                assert go.toolchain.endswith(f".linux-{arch}"), go.refusal
                assert len(go.sum) == 47
