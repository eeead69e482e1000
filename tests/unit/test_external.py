"""What an external collector says and answers, and what is said where something lacks."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import CollectorError, UnavailableError
from harness.linux import processes
from harness.node.agent_process import COUNTED, AgentProcess
from tests.unit.test_collectors import EXTERNAL, process, write
from tests.waiting import PATIENCE_SECONDS

READY = '{"ready": true, "programs": []}'


def say(tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> AgentProcess:
    """An external collector that says this line and ends."""
    (tmp_path / "agent.py").write_text(f"print({line!r})")
    external = process(write(tmp_path, EXTERNAL), tmp_path)
    spawn = processes.spawn  # without the cgroup, which needs root
    with monkeypatch.context() as patch:
        patch.setattr(processes, "spawn", lambda argv, **keys: spawn(argv, log=keys["log"]))
        external.start()
    return external


@pytest.mark.parametrize(
    "told",
    ["", ', "programs": null', ', "programs": [17]', ', "programs": [{"hook": "tp_btf"}]'],
)
def test_a_ready_line_without_programs_is_refused(
    told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = say(tmp_path, f'{{"ready": true, "hooks": []{told}}}', monkeypatch)
    with pytest.raises(CollectorError, match="does not tell its BPF programs"):
        refused.await_ready()
    refused.kill()


def test_a_collector_that_cannot_run_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = say(tmp_path, '{"ready": false, "what": "No BTF."}', monkeypatch)
    with pytest.raises(UnavailableError, match=r"cannot run here: No BTF\."):
        refused.await_ready()
    refused.kill()


def test_a_collector_that_is_ready_before_it_listens_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = say(tmp_path, READY, monkeypatch)
    with pytest.raises(CollectorError, match=r"does not listen\. .*mine\.sock: No such file"):
        refused.await_ready()
    refused.kill()


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], AgentProcess]]:
    """Makes an external collector that is ready, and answers this line to one command."""
    with tempfile.TemporaryDirectory() as name:  # a socket's path must be short
        folder, threads, started = Path(name), [], []

        def make(line: str) -> AgentProcess:
            server = socket.socket(socket.AF_UNIX)
            server.bind(str(folder / "mine.sock"))
            server.listen()
            thread = threading.Thread(target=answer_once, args=(server, line), daemon=True)
            threads.append(thread)
            thread.start()
            started.append(say(folder, READY, monkeypatch))
            started[0].await_ready()
            return started[0]

        yield make
        started[0].kill()
        threads[0].join(PATIENCE_SECONDS)


def answer_once(server: socket.socket, line: str) -> None:
    with server, server.accept()[0] as client:
        client.recv(4096)
        client.sendall(line.encode() + b"\n")


@pytest.mark.parametrize("missing", COUNTED)
def test_a_flush_that_lacks_a_count_is_told_in_words(
    missing: str, answering: Callable[[str], AgentProcess]
) -> None:
    counts = {key: 0 for key in COUNTED if key != missing}
    with pytest.raises(CollectorError, match=f"answers `flush` without {missing}\\. Each is a"):
        answering(json.dumps({"ok": True, **counts})).flush()


@pytest.mark.parametrize("told", ["{}", '{"seconds": null}', '{"seconds": "0.1"}'])
def test_a_switch_that_does_not_say_how_long_it_took_is_told_in_words(
    told: str, answering: Callable[[str], AgentProcess]
) -> None:
    line = json.dumps({"ok": True, **json.loads(told)})
    with pytest.raises(CollectorError, match=r"answers `off` without seconds\. Each is a number"):
        answering(line).switch(False)


def test_all_that_an_answer_lacks_is_named(answering: Callable[[str], AgentProcess]) -> None:
    with pytest.raises(CollectorError, match="without events, map_bytes"):
        answering('{"ok": true, "lost": 0}').flush()


def test_an_answer_with_all_numbers_is_taken(answering: Callable[[str], AgentProcess]) -> None:
    counts = dict.fromkeys(COUNTED, 1)
    assert answering(json.dumps({"ok": True, "spans": 7, **counts})).flush() == {
        "spans": 7,
        **counts,
    }


@pytest.mark.parametrize("line", ["done", "[1]", "null", '"done"'])
def test_an_answer_that_is_no_json_object_is_told_in_words(
    line: str, answering: Callable[[str], AgentProcess]
) -> None:
    with pytest.raises(CollectorError, match="answers with something that is no JSON object"):
        answering(line).stats()
