"""`harness clean --cache`; nothing is left behind here that it could undo."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import app, machine
from harness.errors import NeedError
from harness.node import __main__ as node
from harness.node import answers
from harness.node import machine as measured
from harness.stack import affinity, supply
from harness.targets import packages
from harness.targets.local import Local
from harness.wire import codec


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A cache of each kind with 3 MB in it, and a machine without anything to undo."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(affinity, "free", list)
    for name, told in (("clean", []), ("leftovers", []), ("refuse_beside_another", None)):
        monkeypatch.setattr(measured, name, lambda told=told: told)
    found = [supply.cache(), packages.cache(), supply.subjects()]
    for folder in found:
        folder.mkdir(parents=True)
        (folder / "kept").write_bytes(bytes(3_000_000))
    return found


def _asked(question: str, *about: Any) -> Any:
    """What a node answers, in this process."""
    return node.ANSWERS[question](*map(codec.dump, about))


def _said(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["clean", *arguments])
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split())


def test_all_that_was_fetched_or_built_is_removed(
    tmp_path: Path, caches: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Local, "ask", lambda _, *asked: _asked(*asked))
    assert "nothing to clean" in _said()
    said = _said("--cache")
    for folder in caches:
        assert f"Removed the cache {folder}: 3 MB." in said
    assert list(tmp_path.iterdir()) == []
    assert "nothing to clean" in _said("--cache")


def test_on_another_machine_its_node_removes_what_it_fetched_there_and_nothing_goes_here(
    tmp_path: Path, caches: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"

    def ask(question: str, *about: Any) -> Any:
        with monkeypatch.context() as host:
            host.setenv("XDG_CACHE_HOME", str(there))
            return _asked(question, *about)

    def nothing(*_: object) -> None:
        """It is reached at once."""

    other: Any = SimpleNamespace(
        name="ssh:other", ask=ask, check=nothing, prepare=nothing, remove=nothing
    )
    monkeypatch.setattr(machine, "named", lambda _: other)
    fetched = there / "harness" / "subjects"
    fetched.mkdir(parents=True)
    (fetched / "jar").write_bytes(bytes(2_000_000))
    assert "nothing to clean" in _said("--target", "ssh:other")
    assert fetched.exists()
    assert f"Removed the cache {fetched}: 2 MB." in _said("--target", "ssh:other", "--cache")
    assert not fetched.exists()
    assert all((folder / "kept").exists() for folder in caches)


def test_what_a_run_may_need_stays_while_it_is_measured(
    caches: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise NeedError("The run x is being measured.", "", "Wait.")

    monkeypatch.setattr(measured, "refuse_beside_another", refuse)
    with pytest.raises(NeedError):
        answers.clean(True)
    assert all((folder / "kept").exists() for folder in caches)
    answers.clean()
