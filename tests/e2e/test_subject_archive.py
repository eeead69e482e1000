"""Somebody else's collector out of a release archive, which says more than any disk would hold.

The archive is a real one, served by HTTP; the program in it stands for one that logs each event.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.collectors import resolve
from harness.errors import NeedError
from harness.node import subject_source
from harness.node.limited_log import KEPT
from harness.results.run import Run, TrialRecord
from harness.stack import archives
from tests.e2e.evaluating import beside_a_service, clean_machine, completed, ended
from tests.unit.documented import strangers
from tests.unit.serving import Site, packed, serving

pytestmark = pytest.mark.e2e

# ten megabytes a second, as what runs in a service does below
PROGRAM = """#!/usr/bin/env python3
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
assert open(sys.argv[1]).read() == "how to talk"
print("talker is ready", flush=True)
number = 0
while True:
    sys.stdout.write(500 * ("words " * 350 + "\\n"))
    number += 7
    print("seen", number, flush=True)
    time.sleep(0.1)
"""
PROCESS = """
name = "talker"
purpose = "Stands for a collector that logs each event"
kind = "process"
method = "twin"
command = ["{home}/talker-1.4.2/bin/talker", "{home}/talker-1.4.2/etc/how"]
ready = "^talker is ready$"
events = '^seen (\\d+)$'

[source]
way = "archive"
name = "talker"
version = "1.4.2"
url = "SITE/v{version}/talker-{version}-linux-{arch}.tar.gz"
member = "talker-{version}/bin/talker"
sha256 = { amd64 = "HASH", arm64 = "HASH" }

[telemetry]
seconds = 0.5
"""
# imported first in any Python whose path it is on
WITHIN = """
import os, threading, time

def talk():
    while True:
        os.write(2, 500 * (b"words " * 350 + b"\\n"))  # whole lines
        time.sleep(0.1)

threading.Thread(target=talk, daemon=True).start()
"""
IN_PROCESS = """
name = "talker"
purpose = "Stands for an agent that says all it sees"
kind = "in-process"
language = "Python"
environment = { PYTHONPATH = "FOLDER" }

[source]
way = "path"
name = "python3"
"""


@pytest.fixture(autouse=True)
def machine() -> Iterator[None]:
    yield from clean_machine()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server with nothing yet, and a cache with nothing in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "site" / "v1.4.2").mkdir(parents=True)
    with serving(tmp_path / "site") as there:
        yield there


def _definition(folder: Path, site: Site, sha256: str = "") -> str:
    """The path of one whose archive is there for this machine."""
    arch = archives.architecture(("amd64", "arm64"))
    made = packed(
        folder / "site" / "v1.4.2" / f"talker-1.4.2-linux-{arch}.tar.gz",
        {"talker-1.4.2/bin/talker": PROGRAM.encode(), "talker-1.4.2/etc/how": b"how to talk"},
    )
    text = PROCESS.replace("SITE", site.url).replace("HASH", sha256 or made)
    (folder / "talker.toml").write_text(text)
    return str(folder / "talker.toml")


def _cut(run: Run, log: str) -> list[TrialRecord]:
    """The trials with it, in each of which its log was cut and is small."""
    mine = [r for r in run.records() if r.trial.arm == "theirs"]
    assert [r.status for r in mine] == ["ok"] * len(mine)
    for record in mine:
        (told,) = [w for w in record.extra["warnings"] if "of its log were cut" in w]
        assert told.startswith("talker said so much that ")
        kept = (run.path / "trials" / record.trial.name / log).read_bytes()
        assert KEPT < len(kept) < 2 * KEPT + 100
        assert kept.count(b" bytes were cut here.)\n") == 1
    assert strangers(run) == []
    return mine


def test_one_of_a_release_archive_is_fetched_once_and_may_say_as_much_as_it_likes(
    tmp_path: Path, site: Site
) -> None:
    spec = _definition(tmp_path, site)
    run = completed(beside_a_service("go", spec), tmp_path)
    mine = _cut(run, "agent-talker.log")
    assert {r.trial.kind for r in mine} == {"switched", "metered"}
    for record in mine:
        assert record.extra["versions"] == {"talker": "talker 1.4.2, its release archive"}
    seen = [v.value for r in mine for v in r.values if v.metric == "events"]
    assert min(seen) > 7  # it was told by its last words, behind all that was cut
    assert len(site.asked) == 1
    theirs = resolve(spec).subject
    assert theirs is not None
    home = subject_source.home(theirs.source)
    assert list((tmp_path / "cache" / "harness" / "subjects").iterdir()) == [home]


def test_an_archive_that_differs_is_never_run(tmp_path: Path, site: Site) -> None:
    spec = _definition(tmp_path, site, "0" * 64)
    with pytest.raises(NeedError) as error:
        ended(beside_a_service("go", spec), tmp_path)
    assert "No arm of the experiment can run here" in error.value.what
    assert "is not what the definition names: its sha256 is" in error.value.why
    assert list((tmp_path / "cache" / "harness" / "subjects").iterdir()) == []


def test_what_runs_in_a_service_may_say_as_much_as_it_likes_too(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHIN)
    (tmp_path / "talker.toml").write_text(IN_PROCESS.replace("FOLDER", str(tmp_path)))
    run = completed(beside_a_service("flask", str(tmp_path / "talker.toml")), tmp_path)
    assert _cut(run, "twin.log")
