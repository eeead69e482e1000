"""What npm has: pinned by its own lock file, got by its own client, in one folder of its own."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.collectors import resolve, subject
from harness.errors import InputError, UnavailableError
from harness.node import in_process, subject_source
from harness.plan import trials
from harness.wire.spec import Spawn
from harness.wire.subject import Source, Subject

LOCK = json.dumps(
    {
        "lockfileVersion": 3,
        "packages": {
            "": {"dependencies": {"@mine/agent": "1.2.3"}},
            "node_modules/@mine/agent": {"version": "1.2.3", "integrity": "sha512-x"},
        },
    }
)
TOML = """
name = "mine"
purpose = "Traces what it is in"
kind = "in-process"
language = "Node.js"

[environment]
NODE_PATH = "{home}/node_modules"
NODE_OPTIONS = "--require @mine/agent"

[source]
way = "npm"
name = "@mine/agent"
version = "1.2.3"
lock = "mine.lock"
"""
# what is asked of it is kept, and a module is there afterwards
NPM = """#!/bin/sh
echo "$@" >>{log}
cat package.json >>{log}
mkdir -p node_modules/@mine/agent
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """The source of a definition beside its lock file; the cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "mine.toml").write_text(TOML)
    (tmp_path / "mine.lock").write_text(LOCK)
    found = resolve(str(tmp_path / "mine.toml")).subject
    assert found is not None
    return found.source


def _npm(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    program = folder / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_all_that_ours_brings_is_pinned_by_hashes_and_names_no_index() -> None:
    shipped = [name for name in subject.names() if _source(name).way == "npm"]
    assert shipped
    for name in shipped:
        source, text = _source(name), subject.lock(_source(name))
        packages = json.loads(text)["packages"]
        assert packages[f"node_modules/{source.name}"]["version"] == source.version
        wanted = packages.pop("")["dependencies"]
        assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
        assert all(each["integrity"].startswith("sha512-") for each in packages.values())
        assert "resolved" not in text
        assert "://" not in text


def _source(name: str) -> Source:
    found = resolve(name).subject
    assert found is not None
    return found.source


def test_it_is_got_once_and_runs_no_scripts(
    mine: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    _npm(tmp_path, monkeypatch, NPM.format(log=log))
    for _ in range(2):
        subject_source.get("mine", Subject("in-process", mine), LOCK)
    asked, package = log.read_text().splitlines()
    assert asked.split()[:2] == ["ci", "--ignore-scripts"]
    assert json.loads(package)["dependencies"] == {"@mine/agent": "1.2.3"}
    home = subject_source.home(mine)
    assert home.parent == tmp_path / "cache" / "harness" / "subjects"
    assert (home / "package-lock.json").read_text() == LOCK
    assert subject_source.version(mine) == "@mine/agent 1.2.3, npm"


def test_what_it_does_not_give_leaves_nothing_and_is_one_answer(
    mine: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _npm(tmp_path, monkeypatch, "#!/bin/sh\nmkdir node_modules\necho EINTEGRITY >&2\nexit 1\n")
    with pytest.raises(UnavailableError, match=r"npm did not give it: .*EINTEGRITY"):
        subject_source.get("mine", Subject("in-process", mine), LOCK)
    assert not subject_source.home(mine).exists()


def test_without_its_client_it_says_what_to_install(
    mine: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    refused = subject_source.refusal("mine", Subject("in-process", mine))
    assert refused is not None
    assert "there is no npm on PATH" in refused.what
    assert "apt-get install npm" in refused.next_step
    home = subject_source.home(mine)
    home.mkdir(parents=True)
    (home / "whole").touch()
    assert subject_source.refusal("mine", Subject("in-process", mine)) is None


@pytest.mark.parametrize(
    "lock", ["", "[]", "{}", LOCK.replace("1.2.3", "1.2.4"), LOCK.replace('"": ', '"other": ')]
)
def test_a_lock_that_pins_something_else_is_refused(lock: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(TOML)
    (tmp_path / "mine.lock").write_text(lock)
    with pytest.raises(InputError, match=r"no package-lock\.json that pins this version"):
        resolve(str(tmp_path / "mine.toml"))


def test_the_service_keeps_the_options_that_it_has(mine: Source, tmp_path: Path) -> None:
    home = subject_source.home(mine)
    home.mkdir(parents=True)
    spec = trials.collector(resolve(str(tmp_path / "mine.toml")))
    own = {"NODE_OPTIONS": "--enable-source-maps", "NODE_PATH": "/opt/own"}
    asked = replace(Spawn("shop", ("node", "server.js"), "/"), environment=own)
    found = in_process.instrumented(asked, spec, "", tmp_path)
    assert found.argv == ("node", "server.js")
    assert found.environment == {
        "NODE_OPTIONS": "--require @mine/agent --enable-source-maps",
        "NODE_PATH": f"{home}/node_modules:/opt/own",
    }
