"""What a definition brings along: files, variables, where it counts, how it tells its version."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cli.collector import _origin
from harness.collectors import resolve, subject
from harness.errors import InputError
from harness.node import in_process, subject_files, subject_source
from harness.node.subject_process import SubjectProcess
from harness.plan import trials
from harness.report import evidence
from harness.wire.spec import Spawn
from harness.wire.subject import Source, Subject

PROCESS = """
name = "mine"
purpose = "Reads a file of its own"
kind = "process"
command = ["mine", "{folder}/mine.conf"]
page = "http://127.0.0.1:{free}/metrics"
events = '^seen_total\\S* (\\S+)$'
environment = { TO = "{otlp}", PORT = "{port}" }
files = { "mine.conf" = "port {free} of {pid}" }

[source]
way = "path"
name = "mine"
tells = 'version (\\S+)'
why = "Nobody packs it."

[telemetry]
frequency = 97
"""
WITHIN = """
name = "within"
purpose = "Is called by a file that is laid beside it"
kind = "in-process"
environment = { PYTHONPATH = "{folder}" }

[files]
"sitecustomize.py" = "begin('{service}', '{otlp}')"

[source]
way = "path"
name = "python3"
"""
# what is said to be had on PATH by those that no package registry has
BY_PATH = {
    name: found
    for name in subject.names()
    if (found := resolve(name).subject) is not None and found.source.way == "path"
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('"mine.conf" = "port', '"../mine.conf" = "port'), "'../mine.conf' cannot be the name"),
        (('"mine.conf" = "port', '".." = "port'), "'..' cannot be the name of a file"),
        (('"port {free} of {pid}"', "7"), "files is a table of strings"),
        (('TO = "{otlp}"', "TO = 7"), "environment is a table of strings"),
        (("of {pid}", "of {pids}"), "unknown placeholders: pids"),
        (("{free}/metrics", "{frees}/metrics"), "unknown placeholders: frees"),
        (("events = '^seen_total\\S* (\\S+)$'", ""), "page is of a process, and events says what"),
        (("'version (\\S+)'", "'('"), "source.tells is no regular expression"),
        (("kind =", 'wrap = ["x"]\nkind ='), "wrap is of what runs within the service"),
    ],
)
def test_what_is_wrong_with_it_is_said(change: tuple[str, str], words: str, tmp_path: Path) -> None:
    assert change[0] in PROCESS
    (tmp_path / "mine.toml").write_text(PROCESS.replace(*change))
    with pytest.raises(InputError, match=re.escape(words)):
        subject.read(tmp_path / "mine.toml")


def test_a_profiler_says_its_rate(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(PROCESS)
    found = resolve(str(tmp_path / "mine.toml"))
    assert dict(trials.collector(found).options) == {"frequency": "97"}


def test_the_files_of_one_within_the_service_are_laid_before_it_starts(tmp_path: Path) -> None:
    (tmp_path / "within.toml").write_text(WITHIN)
    spec = trials.collector(resolve(str(tmp_path / "within.toml")))
    with subject_files.folder(tmp_path, "within") as own:
        asked = Spawn("shop", ("{python}", "app.py"), "/")
        found = in_process.instrumented(asked, spec, "http://127.0.0.1:4318", own)
        assert found.environment["PYTHONPATH"].split(":")[0] == str(own)
        told = (own / "sitecustomize.py").read_text()
        assert told == "begin('shop', 'http://127.0.0.1:4318')"
    assert not own.exists()


def test_a_folder_is_empty_whatever_was_left_there(tmp_path: Path) -> None:
    (tmp_path / "home-mine").mkdir()
    (tmp_path / "home-mine" / "old").touch()
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(subject_files.folder(tmp_path, "mine"))
        assert list(own.iterdir()) == []
        (own / "new").touch()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def page() -> Iterator[str]:
    """What a program shows of its own counters."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'# HELP seen_total 9\nseen_total{a="b"} 3\nseen_total{a="c"} 4e1\n')

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    server.server_close()


def _process(page: str, folder: Path) -> SubjectProcess:
    one: Any = SubjectProcess.__new__(SubjectProcess)
    source = Source("path", "x")
    one._subject = Subject("process", source, events=r"^seen_total\S* (\S+)$", page=page)
    one.spec, one.name = SimpleNamespace(export_seconds=60.0, signal=None), "x"
    one._service = SimpleNamespace(pids=list, url="http://127.0.0.1:80", cgroup=folder)
    one._process = SimpleNamespace(poll=lambda: None)
    one._values, one._free, one._home, one._log = {"otlp": ""}, 9, folder, folder / "log"
    found: SubjectProcess = one
    return found


def test_what_a_page_counts_is_added_up_and_is_of_now(page: str, tmp_path: Path) -> None:
    one = _process(page, tmp_path)
    assert one.flush() == one.stats() == {"events": 43.0}


def test_a_page_that_does_not_answer_counts_nothing(tmp_path: Path) -> None:
    assert _process("http://127.0.0.1:{free}/metrics", tmp_path).flush() == {}


def test_a_version_is_found_in_what_it_said() -> None:
    source = Source("path", "no-such-program", tells=r"^Version: v?(\S+)")
    assert subject_source.version(source, "x\nVersion: v1.2\n") == "no-such-program 1.2, on PATH"
    assert "of an unknown version" in subject_source.version(source, "")


@pytest.mark.parametrize("name", sorted(BY_PATH))
def test_one_that_is_not_on_path_says_how_else_it_comes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    source = BY_PATH[name].source
    refused = subject_source.refusal(name, BY_PATH[name])
    assert refused is not None
    assert f"there is no program {source.name} on PATH" in refused.what
    assert bool(source.why) != bool(source.package)  # either Debian has it, or why it has not
    told = f"Debian's {source.package}" if source.package else "on PATH"
    assert _origin(resolve(name)) == f"{source.name}, {told}"
    assert source.why in refused.what or source.package in refused.next_step


def test_what_is_claimed_of_one_that_nobody_could_have_says_so() -> None:
    told = evidence.unobtainable()
    assert "release archive" in told["beyla"]
    assert "bpftrace" not in told
    assert {name for name, each in BY_PATH.items() if each.source.why} <= set(told)


def _waiting(by: str, folder: Path, mark: Any = lambda: 0) -> SubjectProcess:
    one = _process("", folder)
    source = Source("path", "x")
    one._subject = Subject("process", source, ready_by=by)  # type: ignore[arg-type]
    one._mark, one._marked = mark, 0
    return one


def test_it_is_ready_once_it_listens_on_the_port_that_it_was_given(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = _waiting("port", tmp_path)
        one._free = server.getsockname()[1]
        assert one._is_ready()
    assert not one._is_ready()
    assert f"does not listen on port {one._free}" in one._awaited()


def test_it_is_ready_once_its_first_data_came(tmp_path: Path) -> None:
    came = [0]
    one = _waiting("data", tmp_path, lambda: came[0])
    assert not one._is_ready()
    assert "Nothing of it came" in one._awaited()
    came[0] = 1
    assert one._is_ready()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('kind = "process"', 'kind = "process"\nready_by = "luck"', "ready_by is one of log, port"),
        ('kind = "process"', 'kind = "process"\nready_by = "data"\nready = "x"', "no line of its"),
        ("port {free} of {pid}", "of {pid}", "it is ready by a port, and is told none"),
    ],
)
def test_by_what_it_is_ready_is_checked(old: str, new: str, words: str, tmp_path: Path) -> None:
    assert old in PROCESS
    text = PROCESS.replace(old, new)
    if "port" in words and "one of" not in words:
        text = text.replace('kind = "process"', 'kind = "process"\nready_by = "port"')
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(InputError, match=re.escape(words)):
        subject.read(tmp_path / "mine.toml")
