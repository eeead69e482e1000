"""`harness clean --cache`; nothing is left behind here that it could undo."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app, machine
from harness.stack import supply
from harness.targets import packages


def test_all_that_was_fetched_or_built_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "answered", lambda *_: {"done": [], "left": []})
    for folder in (supply.cache(), packages.cache()):
        folder.mkdir(parents=True)
        (folder / "kept").write_bytes(bytes(3_000_000))
    done = CliRunner().invoke(app, ["clean", "--cache"])
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    for folder in (supply.cache(), packages.cache()):
        assert f"Removed the cache {folder}: 3 MB." in said
    assert list(tmp_path.iterdir()) == []
    assert "nothing to clean" in CliRunner().invoke(app, ["clean", "--cache"]).stdout
