"""How other people's collectors are had, and what is said where they cannot be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.collectors import resolve
from harness.controller import skipping
from harness.errors import ComponentError, InputError, UnavailableError
from harness.model import Arm
from harness.node import answers, subject_source
from harness.plan.experiment import Experiment
from harness.wire import codec
from harness.wire.subject import Source, Subject
from tests.unit import defined
from tests.unit.defined import subject_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return defined.folder(tmp_path, monkeypatch)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return defined.cache(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Source("none", "x", why="Nobody has it."), "cannot be had here: Nobody has it."),
        (Source("path", "no-such-program", package="tools"), "no program no-such-program on PATH"),
        (Source("maven", "a:b", "1", "00"), "no mvn on PATH"),
    ],
)
@pytest.mark.usefixtures("cache")
def test_why_one_cannot_be_had_is_one_sentence(
    source: Source, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = subject_source.refusal("mine", Subject("process", source))
    assert isinstance(found, UnavailableError)
    assert words in found.what
    assert found.what.rstrip(".").count(". ") == 0
    with pytest.raises(UnavailableError):
        subject_source.get("mine", Subject("process", source), "")


def test_a_registry_that_gives_nothing_is_an_answer_and_leaves_nothing(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip is asked with an index that is not there."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    lock = (folder / "within.lock").read_text().replace("00", 64 * "0")
    asked = {"within": {"subject": codec.dump(subject_of(resolve("within"))), "lock": lock}}
    found = answers.obtain(asked)
    assert found["within"]["class"] == "UnavailableError"
    assert "PyPI did not give it" in found["within"]["what"]
    assert list(cache.iterdir()) == []


def test_a_jar_that_is_another_one_is_thrown_away(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mvn is a script that brings a file."""
    program = tmp_path / "bin" / "mvn"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho jar > "${5#-DoutputDirectory=}/b-1.jar"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    told = "b1b6ffa1a2ebd5ae8a3ac2b5e8ffb1ef48e1fa29b44db3c4ba9b48db5ef6f0f2"
    with pytest.raises(ComponentError, match="is not what its definition names"):
        subject_source.get("b", Subject("in-process", Source("maven", "a:b", "1", told)), "")
    assert list(cache.iterdir()) == []


def test_only_what_a_registry_has_is_asked_for(folder: Path) -> None:
    asked: list[tuple[str, Any]] = []

    def ask(question: str, about: Any) -> dict[str, Any]:
        asked.append((question, about))
        return {}

    target: Any = SimpleNamespace(ask=ask)
    known = {name: resolve(name) for name in ("mine", "within", "http")}
    assert skipping.obtained(target, known, lambda _: None) == {}
    ((question, about),) = asked
    assert question == "obtain"
    assert {name: each["lock"] for name, each in about.items()} == {
        "within": (folder / "within.lock").read_text()
    }
    asked.clear()
    again = {**known, "also": resolve("within")}
    assert skipping.obtained(target, again, lambda _: None) == {}
    assert [list(each) for _, each in asked] == [["within"], ["also"]]  # each in its own time
    (folder / "within.lock").write_text("within==2.0 --hash=sha256:00\n")
    with pytest.raises(InputError, match="is not what the run began with"):
        skipping.obtained(target, known, lambda _: None)


def test_what_could_not_be_had_is_skipped_with_its_reason() -> None:
    refused = UnavailableError("Collector 'a' cannot be had here: no.", "", "Leave it out.")
    target: Any = SimpleNamespace(ask=lambda *_: {})
    e = Experiment("e", ("flask",), (Arm("baseline"), Arm("a", ("ddtrace",), (), "twin")))
    found = skipping.skipped(target, e, {}, {"ddtrace": refused.to_dict()})
    assert found == {"a": str(refused)}
