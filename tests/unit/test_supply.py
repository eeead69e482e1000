"""Where a component's program comes from: the first way that works, and never a changed file."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ComponentError, InputError, NeedError
from harness.stack import catalog, supply
from harness.stack.catalog import Archive, Component, Module, OnPath, Way
from tests.unit.serving import packed, serving

PROGRAM = b"#!/bin/sh\necho tool, version 3.2.1\n"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A server with one archive, `tool-1.0.tar.gz`: its address and the archive's sha256."""
    folder = tmp_path / "site"
    folder.mkdir()
    digest = packed(folder / "tool-1.0.tar.gz", {"tool-1.0/tool": PROGRAM})
    with serving(folder) as there:
        yield f"{there.url}/tool-{{version}}.tar.gz", digest


def _tool(*ways: Way, **values: Any) -> Component:
    return Component("tool", "Tool", "1.0", "MIT", ways, **values)


def _archive(url: str, digest: str) -> Archive:
    return Archive(url, {"amd64": digest, "arm64": digest}, "tool-{version}/tool")


def _on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "tool"
    program.parent.mkdir()
    program.write_bytes(PROGRAM)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return program


def test_the_shipped_catalog_pins_every_module() -> None:
    components = catalog.load()
    assert list(components) == [
        "otelcol", "prometheus", "tempo", "jaeger", "loki", "victorialogs", "parca", "grafana",
    ]  # fmt: skip
    for component in components.values():
        assert component.version
        assert component.licence
        assert component.ways
        for way in component.ways:
            if isinstance(way, Module):
                assert "AGPL" not in component.licence  # those are run as they are released
                folder = component.modules / component.name
                assert "\nrequire (" in (folder / "go.mod").read_text()
                assert (folder / "go.sum").stat().st_size > 0
            if isinstance(way, Archive):
                assert all(len(digest) == 64 for digest in way.sha256.values())


def test_a_wrong_entry_is_named(tmp_path: Path) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text('[[components]]\nname = "tool"\ncolour = "red"\n')
    with pytest.raises(InputError, match=r"'tool' is wrong.*colour"):
        catalog.load(path)


def test_a_program_on_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = _on_path(tmp_path, monkeypatch)
    component = _tool(OnPath(("tool",), "3.2"), _archive("http://127.0.0.1:9/{version}", "0" * 64))
    offer = supply.choose(component, tmp_path / "cache")
    assert offer is not None
    assert (offer.how, offer.program, offer.ready) == ("on PATH", program, True)
    assert supply.get(component, tmp_path / "cache") == program
    assert not (tmp_path / "cache").exists()


def test_an_older_program_on_path_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: tuple[str, str]
) -> None:
    _on_path(tmp_path, monkeypatch)
    component = _tool(OnPath(("tool",), "3.10"), _archive(*site))
    first, second = supply.offers(component, tmp_path / "cache")
    assert "is 3.2.1, not 3.10 or later" in first.refusal
    assert second.refusal == ""
    assert supply.choose(component, tmp_path / "cache") == second


def test_a_later_program_than_the_configuration_fits_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _on_path(tmp_path, monkeypatch)
    (offer,) = supply.offers(_tool(OnPath(("tool",), "3.0", "3.2")), tmp_path / "cache")
    assert "not 3.0 or later, below 3.2" in offer.refusal


def test_an_archive_is_fetched_once(tmp_path: Path, site: tuple[str, str]) -> None:
    component, folder = _tool(_archive(*site)), tmp_path / "cache"
    told: list[str] = []
    program = supply.get(component, folder, told.append)
    assert program.read_bytes() == PROGRAM
    assert program.stat().st_mode & 0o111
    assert len(told) == 1
    assert supply.get(component, folder, told.append) == program
    assert len(told) == 1
    assert [path.name for path in folder.iterdir()] == ["bin"]
    offer = supply.choose(component, folder)
    assert offer is not None
    assert offer.how == "cache"


def test_what_is_there_is_used_before_anything_is_fetched(
    tmp_path: Path, site: tuple[str, str]
) -> None:
    there, folder = _archive(*site), tmp_path / "cache"
    program = supply.get(_tool(there), folder)
    component = _tool(_archive("http://127.0.0.1:9/tool-{version}", "0" * 64), there)
    assert supply.get(component, folder, pytest.fail) == program


def test_a_download_that_differs_is_refused(tmp_path: Path, site: tuple[str, str]) -> None:
    url, digest = site
    folder = tmp_path / "cache"
    component = _tool(_archive(url, "f" * 64), _archive(url, digest))
    with pytest.raises(ComponentError, match=f"its sha256 is {digest}"):
        supply.get(component, folder)  # and the next way is not tried
    assert not list(folder.rglob("*"))


def test_a_download_that_is_cut_off_gives_way_to_the_next(
    tmp_path: Path, site: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, digest = site
    sent = SimpleHTTPRequestHandler.send_header
    monkeypatch.setattr(
        SimpleHTTPRequestHandler,
        "send_header",
        lambda self, key, value: sent(
            self, key, str(int(value) + 1) if key == "Content-Length" else value
        ),
    )
    with pytest.raises(NeedError, match="was cut off after"):
        supply.get(_tool(_archive(url, digest)), tmp_path / "cache")
    monkeypatch.undo()
    component = _tool(_archive(url, digest), _archive(url, digest))
    assert supply.get(component, tmp_path / "cache").read_bytes() == PROGRAM


def test_an_unreachable_archive_gives_way_to_the_next(
    tmp_path: Path, site: tuple[str, str]
) -> None:
    component = _tool(_archive("http://127.0.0.1:9/tool-{version}", "0" * 64), _archive(*site))
    assert supply.get(component, tmp_path / "cache").read_bytes() == PROGRAM


def test_when_no_way_works_each_says_why(tmp_path: Path) -> None:
    component = _tool(OnPath(("no-such-tool",), "1"), Archive("http://x/", {}, "tool"))
    assert supply.choose(component, tmp_path) is None
    with pytest.raises(NeedError, match=r"no no-such-tool.*archive: none for"):
        supply.get(component, tmp_path)


def test_a_changed_module_is_built_again(tmp_path: Path) -> None:
    folder = tmp_path / "modules" / "tool"
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text("module example.org/tool\n\ngo 1.20\n")
    way = Module(".", "main.version")
    component = Component("tool", "Tool", "1.0", "MIT", (way,), modules=folder.parent)
    before = supply.key(component, way)
    assert supply.key(component, way) == before
    (folder / "go.sum").write_text("example.org/x v1.0.0 h1:abc=\n")
    assert supply.key(component, way) != before


GO = """#!/bin/sh
case "$1 $2" in
    "env -json") echo '{"GOVERSION": "go1.21.3", "GOTOOLCHAIN": "local", "GOHOSTARCH": "amd64"}' ;;
    build*) echo "$GOMODCACHE $*" > "{folder}/asked"; cat go.mod main.go > "{folder}/built-from"
        while [ "$1" != -o ]; do shift; done
        echo built > "$2" ;;
esac
"""


def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, go: str) -> Component:
    """A component made from a module that needs this version of Go; Go is 1.21.3, and scripted."""
    folder = tmp_path / "modules" / "tool"
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text(f"module example.org/tool\n\ngo {go}\n")
    (folder / "main.go").write_text("package main\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "go").write_text(GO.replace("{folder}", str(tmp_path)))
    (tmp_path / "bin" / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    way = Module("example.org/tool/cmd", "main.version", ("small", "static"))
    return Component("tool", "Tool", "7.8.9", "MIT", (way,), modules=folder.parent)


def test_a_module_is_built_once_and_stamped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    component, cache = _module(tmp_path, monkeypatch, "1.21"), tmp_path / "cache"
    program = supply.get(component, cache)
    assert program.read_text() == "built\n"
    assert (tmp_path / "built-from").read_text().startswith("module example.org/tool")
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith(f"{cache}/go/mod build -mod=readonly ")
    assert "-X main.version=7.8.9 -tags small,static" in asked
    assert asked.endswith(" example.org/tool/cmd\n")
    (tmp_path / "asked").unlink()
    assert supply.get(component, cache) == program
    assert not (tmp_path / "asked").exists()
    (cache / "go" / "mod").mkdir(parents=True)
    supply.tidy(cache)
    assert [path.name for path in cache.iterdir()] == ["bin"]
    assert supply.empty(cache) == len("built\n")
    assert not cache.exists()


def test_the_cache_is_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert supply.cache() == tmp_path / "harness" / "stack"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert supply.cache() == Path.home() / ".cache" / "harness" / "stack"
