"""A collector that is compiled into the service: in a copy of its source, before it is started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.collectors import resolve
from harness.errors import CollectorError, InputError
from harness.node import in_process, subject_source
from harness.plan import trials
from harness.wire.spec import CollectorSpec, Spawn
from harness.wire.subject import Source

TOML = """
name = "mine"
purpose = "Is compiled into the service"
kind = "in-process"
language = "C"
build = ["sh", "-c", "cp main {folder}/service && ls -A > {folder}/seen && touch made"]
program = "{folder}/service"
environment = { TO = "{otlp}" }

[source]
way = "path"
name = "sh"
"""
OTHER = 'build = ["sh", "-c", "echo one; echo it lacks a bracket >&2; exit 3"]'


def _spec(folder: Path, text: str = TOML) -> CollectorSpec:
    (folder / "mine.toml").write_text(text)
    return trials.collector(resolve(str(folder / "mine.toml")))


@pytest.fixture
def asked(tmp_path: Path) -> Spawn:
    """A service with its source, and with what was built of that before."""
    source = tmp_path / "shop"
    (source / ".output").mkdir(parents=True)
    (source / "main").write_text("program")
    return Spawn("shop", ("./.output/main", "--port", "7"), str(source))


def test_the_program_is_another_one_and_the_source_stays_as_it_is(
    asked: Spawn, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    attended: list[int] = []
    found = in_process.instrumented(
        asked, _spec(tmp_path), "http://127.0.0.1:1", own, lambda: attended.append(1)
    )
    assert found.argv == (f"{own}/service", "--port", "7")
    assert found.cwd == asked.cwd
    assert (own / "service").read_text() == "program"
    assert (own / "seen").read_text().split() == ["main"]
    assert attended
    assert sorted(os.listdir(asked.cwd)) == [".output", "main"]


def test_what_cannot_be_compiled_says_what_its_compiler_said(asked: Spawn, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    line = next(line for line in TOML.splitlines() if line.startswith("build"))
    with pytest.raises(CollectorError, match="cannot be compiled into the service") as told:
        in_process.instrumented(asked, _spec(tmp_path, TOML.replace(line, OTHER)), "", own)
    assert told.value.why == "It said: one it lacks a bracket"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('program = "{folder}/service"\n', ""),
        ('kind = "in-process"', 'kind = "process"\ncommand = ["x"]'),
        ("build =", "files = {}\nwrap ="),
    ],
)
def test_both_keys_are_of_what_is_compiled_in(old: str, new: str, tmp_path: Path) -> None:
    assert old in TOML
    with pytest.raises(InputError, match="has both build and program"):
        _spec(tmp_path, TOML.replace(old, new))


@pytest.mark.parametrize(
    ("asked", "script", "version"),
    [
        ("", '[ "$1" = --version ] && echo "mine 1.2.3"', "1.2.3"),
        (
            "version",
            '[ "$1" = version ] && echo "mine version v1.1.0+abc"; touch here',
            "1.1.0+abc",
        ),
        ("", '[ "$1" = version ] && echo "mine 1.2.3"', "of an unknown version"),
        ("", "exit 1", "of an unknown version"),
        ("", "echo 1.2.3; exec sleep 999", "of an unknown version"),
    ],
)
def test_a_program_is_asked_for_its_version_by_the_word_that_its_definition_says(
    asked: str, script: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject_source, "ASK_SECONDS", 1.0 if "sleep" in script else 60.0)
    program = tmp_path / "bin" / "mine"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    source = Source("path", "mine", asks=asked) if asked else Source("path", "mine")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    assert subject_source.version(source) == f"mine {version}, on PATH"
    assert not (tmp_path / "here").exists()


def test_the_tool_for_go_answers_to_another_word() -> None:
    found = resolve("otel-go").subject
    assert found is not None
    assert found.source.asks == "version"
