"""Names that are no UTF-8, of processes, files, arguments and cgroups: agents outlive them."""

from __future__ import annotations

import http.client
import os
import shutil
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.agent import pprof
from harness.linux import processes
from tests.waiting import until

pytestmark = pytest.mark.bpf

SERVER = Path(__file__).with_name("http_server.py")
ODD = b"\xff\xfe\xd0"  # the kernel cuts a Cyrillic name to something like this
TOLD = "\ufffd\ufffd\ufffd"
NAME_ITSELF = """
import ctypes, os, socket, sys
ctypes.CDLL(None).prctl(15, b"\\xff\\xfe\\xd0", 0, 0, 0)  # PR_SET_NAME
"""
OPEN = NAME_ITSELF + "os.open(os.fsencode(sys.argv[1]), os.O_RDONLY)"
FORK_AND_OPEN = NAME_ITSELF + "os.fork() or os._exit(os.open(os.fsencode(sys.argv[1]), 0) < 0)\n"
FORK_AND_OPEN += "os.wait()"
CONNECT = NAME_ITSELF + "socket.create_connection(('127.0.0.1', int(sys.argv[1]))).close()"
BUSY = NAME_ITSELF + "def hot(n):\n    while n:\n        n -= 1\nhot(20_000_000)"


def policy(folder: Path, event: str, match: str, action: str = "report") -> tuple[str, ...]:
    file = folder / "policy.toml"
    file.write_text(f'[[rules]]\nevent = "{event}"\nmatch = "{match}"\naction = "{action}"\n')
    return "--policy", str(file), "--open-hook", "fanotify"


def logs(receiver: Any, name: str) -> list[dict[str, Any]]:
    return [receiver.attributes(log) for log in receiver.logs if log.event_name == name]


@pytest.mark.parametrize("code", [OPEN, FORK_AND_OPEN])
@pytest.mark.parametrize("action", ["report", "kill"])
def test_a_process_of_any_name_opens_a_file(
    service: Any, start_agent: Any, receiver: Any, tmp_path: Path, code: str, action: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    agent = start_agent("guard", *policy(tmp_path, "open", str(secret), action))
    opener = service.start(sys.executable, "-c", code, str(secret))
    opener.wait(60)
    assert processes.run(["/bin/cat", str(secret)], timeout=60).stdout == "secret\n"
    assert until(lambda: agent.call("flush") and logs(receiver, "file.open"))
    (opened,) = logs(receiver, "file.open")
    assert opened["process.executable.name"] == TOLD
    assert opened["guard.action"] == action
    assert agent.call("stats")["errors"] == 0


@pytest.mark.parametrize("action", ["report", "kill"])
def test_a_file_of_any_name_is_opened(
    service: Any, start_agent: Any, receiver: Any, tmp_path: Path, action: str
) -> None:
    secret = os.fsencode(tmp_path) + b"/secret-" + ODD
    with open(secret, "w"):
        pass
    agent = start_agent("guard", *policy(tmp_path, "open", f"{tmp_path}/secret-*", action))
    assert service.start("/bin/cat", os.fsdecode(secret)).wait(60) == (0, -9)[action == "kill"]
    # who is denied it is killed first, and told then
    assert until(lambda: agent.call("flush") and logs(receiver, "file.open"))
    (opened,) = logs(receiver, "file.open")
    assert opened["file.path"] == f"{tmp_path}/secret-{TOLD}"
    assert opened["guard.rule"] == "rule-1"


def test_a_program_of_any_name_and_arguments_is_executed(
    service: Any, start_agent: Any, receiver: Any, tmp_path: Path
) -> None:
    program = os.fsencode(tmp_path) + b"/" + ODD
    shutil.copy(b"/bin/true", program)
    agent = start_agent("guard", *policy(tmp_path, "exec", f"{tmp_path}/*"))
    assert service.start(os.fsdecode(program), os.fsdecode(ODD)).wait(60) == 0
    agent.call("flush")
    (executed,) = logs(receiver, "process.exec")
    assert executed["process.executable.path"] == f"{tmp_path}/{TOLD}"
    assert executed["process.command_args"] == [f"{tmp_path}/{TOLD}", TOLD]


def test_a_process_of_any_name_connects(
    service: Any, start_agent: Any, receiver: Any, tmp_path: Path
) -> None:
    agent = start_agent("guard", *policy(tmp_path, "connect", "127.0.0.0/8"))
    port = service.serve(sys.executable, str(SERVER), "127.0.0.1")
    assert service.start(sys.executable, "-c", CONNECT, str(port)).wait(60) == 0
    agent.call("flush")
    (connected,) = logs(receiver, "network.connect")
    assert connected["process.executable.name"] == TOLD


def test_a_program_of_any_name_is_profiled(service: Any, start_agent: Any, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(ODD)
    folder.mkdir()
    library = folder / "libm\r.so.6"  # neither does a file's name end a line of /proc/PID/maps
    shutil.copy(next(Path("/lib").glob("*/libm.so.6")), library)
    profiles = tmp_path / "pprof"
    profiles.mkdir()
    agent = start_agent("profile", "--frequency=199", "--pprof", str(profiles))
    code = f"import ctypes; kept = ctypes.CDLL({str(library)!r})\n" + BUSY
    busy = service.start(sys.executable, "-c", code)
    agent.call("flush")
    while busy.poll() is None:
        agent.call("flush")
    stacks = [each for path in profiles.iterdir() for each in pprof.stacks(pprof.read(path))]
    assert any(frame.name == "hot" for stack in stacks for frame in stack.frames)
    assert agent.call("stats")["errors"] == 0


@pytest.fixture
def odd_service(make_service: Any) -> Any:
    return make_service(os.fsdecode(ODD))


@pytest.mark.parametrize("name", ["http", "flows", "profile", "guard", "inject"])
def test_a_cgroup_of_any_name_is_traced(odd_service: Any, start_agent: Any, name: str) -> None:
    agent = start_agent(name, cgroup=odd_service.path)
    port = odd_service.serve(sys.executable, str(SERVER), "127.0.0.1")
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for _ in range(23):
            connection.request("GET", "/")
            connection.getresponse().read()
    told = agent.call("flush")
    assert told["errors"] == 0
    assert told["events"] > 0 or name == "profile"  # which may not have met it


def test_a_script_of_any_name_is_executed(
    service: Any, start_agent: Any, receiver: Any, tmp_path: Path
) -> None:
    script = os.fsencode(tmp_path) + b"/" + ODD
    with open(script, "w") as file:
        file.write("#!/bin/sh\n")
    os.chmod(script, 0o755)
    agent = start_agent("guard", *policy(tmp_path, "exec", "*"))
    assert service.start(os.fsdecode(script)).wait(60) == 0
    agent.call("flush")
    (executed,) = logs(receiver, "process.exec")
    assert executed["process.script.path"] == f"{tmp_path}/{TOLD}"
    assert agent.call("stats")["errors"] == 0
