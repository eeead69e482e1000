"""File systems that never answer: what is not of them is watched, and they are when they answer."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.agent import roots
from harness.linux import processes
from harness.wire import control
from tests.bpf import silent
from tests.bpf.guarded import hooks, logs, policy
from tests.bpf.profiled import stacks
from tests.waiting import until

pytestmark = [
    pytest.mark.bpf,
    pytest.mark.skipif(not os.access("/dev/fuse", os.W_OK), reason="there is no /dev/fuse"),
]

# Nobody waits for long, and all is looked at again soon.
SOON = """
import sys
from harness.agent import bounded, policy_maps
bounded.WAIT_SECONDS = 1.0
policy_maps.REFRESH_SECONDS = 0.3
from harness.agent.__main__ import main
sys.exit(main(sys.argv[4:]))
"""


@pytest.fixture
def start(start_through: Any) -> Callable[..., control.Client]:
    """Start a collector whose patience is short."""
    return lambda name, *options: start_through(name, SOON, *options)


@pytest.mark.parametrize("action", ["report", "kill"])
@pytest.mark.parametrize("hook", hooks())
def test_guard_starts_and_watches_what_answers_and_the_rest_when_it_does(
    start: Any, service: Any, receiver: Any, tmp_path: Path, hook: str, action: str
) -> None:
    dead, secret = tmp_path / "dead", tmp_path / "secret"
    dead.mkdir()
    secret.touch()
    rules = [
        ("open", f"{dead}/secret", action),
        ("open", f"{dead}/*/key", action),
        ("exec", f"{dead}/bin/*", "kill"),
        ("open", str(secret), "kill"),
    ]
    with silent.mounted(dead) as end:
        client = start("guard", *policy(tmp_path, *rules), "--open-hook", hook)
        said = (tmp_path / "agent.log").read_text()
        assert f"{dead}/secret (fuse mounted at {dead}) does not answer" in said
        assert until(lambda: service.start("/bin/cat", str(secret)).wait(60) == -signal.SIGKILL)
        for _ in range(3):
            client.call("flush")
        assert client.call("stats").get("answerer_restarts", 0) == 0
        assert client.call("off")
        assert client.call("on")
        end()
    (dead / "secret").touch()
    log = tmp_path / "agent.log"
    assert until(lambda: "answer again" in log.read_text())

    def seen() -> bool:
        service.start("/bin/cat", str(dead / "secret")).wait(60)
        client.call("flush")
        told = logs(receiver, "file.open")
        return any(each["file.path"] == str(dead / "secret") for each in told)

    assert until(seen)
    assert client.call("flush")["errors"] == 0


def known(output: Path) -> set[tuple[int, bool]]:
    """The processes that were sampled, and whether the build id of their file is known."""
    return {
        (each.pid, bool(frame.mapping.build_id))
        for each in stacks(output)
        for frame in each.frames
        if frame.mapping and frame.mapping.path.endswith("/python3.12")
    }


def burning(folder: Path) -> tuple[str, ...]:
    """A program by a name in which an interpreter is looked for."""
    if not folder.exists():
        folder.mkdir()
        shutil.copy("/bin/sh", folder / "python3.12")
    return str(folder / "python3.12"), "-c", "while :; do :; done"


def test_profile_starts_and_refreshes_whatever_a_file_it_looks_into_does(
    start: Any, service: Any, tmp_path: Path
) -> None:
    """The file of a process is behind a mount that came later."""
    output = tmp_path / "pprof"
    output.mkdir()
    dead, other = (service.start(*burning(tmp_path / name)).pid for name in ("dead", "alive"))
    with silent.mounted(tmp_path / "dead") as end:
        client = start("profile", "--frequency", "99", "--pprof", str(output), "--drain", "0.1")
        assert until(
            lambda: client.call("flush") and {(dead, False), (other, True)} <= known(output)
        )
        new = service.start(*burning(tmp_path / "alive")).pid
        assert until(lambda: client.call("flush") and (new, True) in known(output))
        assert (dead, True) not in known(output)
        assert client.call("off")
        assert client.call("on")
        assert client.call("stats")["errors"] == 0
        end()
    assert until(lambda: client.call("flush") and (dead, True) in known(output))


def test_profile_ends_while_a_file_does_not_answer(
    start: Any, service: Any, tmp_path: Path, agents: list[processes.Process]
) -> None:
    service.start(*burning(tmp_path / "dead"))
    with silent.mounted(tmp_path / "dead"):
        client = start("profile", "--frequency", "99", "--drain", "0.1")
        assert until(lambda: client.call("stats")["events"])
        client.call("stop")
        assert until(lambda: agents[0].poll() is not None)
    assert agents[0].wait(1) == 0
    assert "stays loaded" not in (tmp_path / "agent.log").read_text()


def test_a_root_that_does_not_answer_is_known_all_the_same(tmp_path: Path) -> None:
    """Whose roots there are is found out by the thread that looks for new ones."""
    found: list[object] = []

    def look() -> None:
        found.append(roots._known(f"{tmp_path}/"))
        with closing(roots.Root(str(tmp_path))) as root:
            found.append(root.reached("/x"))

    with silent.mounted(tmp_path):
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
    assert len(found) == 2


def test_what_the_kernel_knows_of_a_folder_is_what_it_says_of_it(tmp_path: Path) -> None:
    inode, major, minor = roots._known(str(tmp_path))
    said = tmp_path.stat()
    assert (inode, os.makedev(major, minor)) == (said.st_ino, said.st_dev)
