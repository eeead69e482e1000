"""Two collectors of other people, as their definitions say; for tests of subjects."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.collectors import subject
from harness.collectors.definition import Definition
from harness.wire.spec import CollectorSpec
from harness.wire.subject import Subject

MINE = """
name = "mine"
purpose = "Counts what it likes"
kind = "process"
method = "block"
reach = "host"
command = ["mine", "--pid", "{pid}", "--of", "{here}"]
ready = "^ready"
events = '^seen (\\d+)$'

[source]
way = "path"
name = "mine"
package = "mine-tools"

[[claims]]
text = "< 1 % CPU"
source = "its README"
date = "2026-08"
"""
WITHIN = """
name = "within"
purpose = "Traces what it is in"
kind = "in-process"
language = "Python"
wrap = ["{home}/bin/run"]
environment = { PYTHONPATH = "{site}", TO = "{otlp}/x", AS = "{service}" }

[source]
way = "pypi"
name = "within"
version = "1.0"
lock = "within.lock"

[telemetry]
signal = "server_spans"
kind = "spans"
scope = "within"
seconds = 5.0
"""


def folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where definitions are, with two in it: nothing but this is done to add them."""
    monkeypatch.setattr(subject, "FOLDER", place)
    (place / "mine.toml").write_text(MINE)
    (place / "within.toml").write_text(WITHIN)
    (place / "within.lock").write_text("within==1.0 --hash=sha256:00\n")
    return place


def cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where collectors are kept that were fetched: nothing is in it yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    return place / "cache" / "harness" / "subjects"


def subject_of(known: Definition | CollectorSpec) -> Subject:
    """What is somebody else's in it."""
    assert known.subject is not None
    return known.subject
