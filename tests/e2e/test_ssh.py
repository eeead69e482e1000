"""The target ssh against a real sshd in namespaces of its own: install, run, lose, remove."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.controller.node import Node, session
from harness.errors import HarnessError, InputError, NeedError, NodeError
from harness.linux import cgroup, mount, processes
from harness.targets import ssh_host
from harness.targets.openssh import CONFIGURATION, Connection, host
from harness.targets.ssh import FOLDER, Ssh
from tests.e2e import sshd
from tests.e2e.sshd import ALLOWED, NAME, ORDINARY, Server
from tests.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to make namespaces"),
    pytest.mark.skipif(not Path("/usr/sbin/sshd").exists(), reason="sshd is not installed"),
]
RUN = "over-ssh"


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with sshd.serve() as started:
        yield started


@pytest.fixture
def reach(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Ssh]]:
    """Makes targets, and removes what they installed."""
    made: list[Ssh] = []

    def to(server: Server, given: str = NAME, **how: str) -> Ssh:
        monkeypatch.setenv(CONFIGURATION, str(server.configuration(**how)))
        made.append(Ssh(given))
        return made[-1]

    yield to
    for each in made:
        try:
            each.remove()
        except HarnessError:
            continue  # one that was never reached


def installed(server: Server) -> list[str]:
    folder = server.path(FOLDER)
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def run_cgroup() -> Path:
    root = mount.find("cgroup2")
    assert root is not None
    return root / cgroup.PARENT / f"run-{RUN}"


def await_gone(path: Path) -> None:
    assert until(lambda: not path.exists()), f"{path} is left"


def test_what_a_node_needs_is_installed_once_answers_and_is_removed(
    server: Server, reach: Callable[..., Ssh]
) -> None:
    target, told = reach(server), list[str]()
    target.check()
    assert installed(server) == []
    target.prepare(told.append)
    assert len(installed(server)) == 1
    assert any("copying" in line for line in told)
    told.clear()
    Ssh(NAME).prepare(told.append)
    assert told == []
    described = target.ask("describe")
    assert described["facts"]["kernel"] == os.uname().release
    target.remove()
    assert not server.path(FOLDER).exists()


def test_what_the_host_fetched_is_removed_there_when_asked(
    server: Server, reach: Callable[..., Ssh]
) -> None:
    target, fetched = reach(server), server.path("/root/.cache/harness/subjects/agent-1.0")
    fetched.mkdir(parents=True)
    (fetched / "agent.jar").write_bytes(b"jar")
    assert target.ask("clean") == {"done": [], "left": []}
    assert fetched.exists()
    (done,) = target.ask("clean", True)["done"]
    assert done.startswith("Removed the cache /root/.cache/harness/subjects:")
    assert not server.path("/root/.cache").joinpath("harness").exists()


def test_a_node_over_ssh_opens_a_session_and_undoes_it(
    server: Server, reach: Callable[..., Ssh], tmp_path: Path
) -> None:
    target = reach(server)
    node = Node(target.connect())
    hello = node.open(session(RUN, receiver="sink", idle_poll=False), quiet)
    assert hello.facts["architecture"] == os.uname().machine
    assert run_cgroup().is_dir()
    assert node.close() == []
    assert not run_cgroup().exists()
    assert not list(server.path("/run").glob("harness*"))


def test_a_node_ends_and_undoes_when_the_connection_is_cut(
    server: Server, reach: Callable[..., Ssh]
) -> None:
    target = reach(server)
    node = Node(target.connect())
    node.open(session(RUN, receiver="sink", idle_poll=False), quiet)
    assert run_cgroup().is_dir()
    held = target._connection._holder
    assert held is not None
    os.kill(held.pid, signal.SIGKILL)
    await_gone(run_cgroup())
    with pytest.raises(NodeError, match="lost"):
        node.end_block(quiet)
    node.close()
    again = Node(target.connect())
    assert again.open(session(RUN, receiver="sink", idle_poll=False), quiet).work
    again.close()


CONTROLLER = """
import sys
from harness.controller.node import Node, session
from harness.targets import target

node = Node(target(sys.argv[1]).connect())
node.open(session(sys.argv[2], receiver="sink", idle_poll=False), lambda _: None)
print("open", flush=True)
sys.stdin.read()
"""


def test_a_node_ends_and_undoes_when_the_controller_is_killed(
    server: Server, reach: Callable[..., Ssh], tmp_path: Path
) -> None:
    target = reach(server)
    target.prepare(quiet)
    argv = [sys.executable, "-c", CONTROLLER, target.name, RUN]
    controller = processes.connect(argv, log=tmp_path / "controller.log")
    assert controller.stdin is not None
    assert controller.stdout is not None
    with controller.stdin, controller.stdout:
        assert controller.stdout.readline() == b"open\n", (tmp_path / "controller.log").read_text()
        assert run_cgroup().is_dir()
        controller.kill()
        controller.wait()
        await_gone(run_cgroup())


def test_what_a_node_runs_from_is_not_removed_under_it(
    server: Server, reach: Callable[..., Ssh]
) -> None:
    target = reach(server)
    node = Node(target.connect())
    node.open(session(RUN, receiver="sink", idle_poll=False), quiet)
    Ssh(NAME).remove()
    assert len(installed(server)) == 1
    node.close()
    Ssh(NAME).remove()
    assert not server.path(FOLDER).exists()


def test_a_user_who_may_use_sudo_measures_as_root(
    server: Server, reach: Callable[..., Ssh]
) -> None:
    target = reach(server, f"{ALLOWED}@{NAME}")
    node = Node(target.connect())
    node.open(session(RUN, receiver="sink", idle_poll=False), quiet)
    assert run_cgroup().is_dir()
    assert node.close() == []
    assert server.path(FOLDER).stat().st_uid == 0
    target.remove()
    assert not server.path(FOLDER).exists()


def test_a_user_who_may_not_use_sudo_is_refused(server: Server, reach: Callable[..., Ssh]) -> None:
    with pytest.raises(NeedError, match=r"not root.*NOPASSWD"):
        reach(server, f"{ORDINARY}@{NAME}").check()


@pytest.mark.parametrize(
    ("given", "how", "kind", "what"),
    [
        (NAME, {"known": "nobody"}, NeedError, "is not known here"),
        (NAME, {"known": "changed"}, NeedError, "another than the one that is known"),
        (NAME, {"key": "stranger"}, NeedError, "does not let us in"),
        ("gone", {}, NeedError, "cannot be reached"),
        ("nowhere.invalid", {}, InputError, "no host nowhere.invalid"),
    ],
)
def test_each_way_of_not_getting_in_says_what_to_do(
    server: Server,
    reach: Callable[..., Ssh],
    given: str,
    how: dict[str, str],
    kind: type[HarnessError],
    what: str,
) -> None:
    with pytest.raises(kind) as refused:
        reach(server, given, **how).check()
    assert what in refused.value.what
    assert "ssh says: " in refused.value.why
    assert refused.value.next_step


@pytest.mark.parametrize(
    ("before", "what"),
    [
        ("mount -t tmpfs none /sys/kernel/btf", "no type information"),
        ("mount --bind /dev/null $(readlink -f /usr/bin/python3)", "has no Python"),
        ("mount --bind /dev/null $(readlink -f $(command -v flock))", "has no flock"),
    ],
)
def test_a_host_that_lacks_something_is_refused_before_anything_is_copied(
    reach: Callable[..., Ssh], before: str, what: str
) -> None:
    with sshd.serve(before=before) as server:
        target = reach(server)
        with pytest.raises(NeedError, match=what):
            target.check()
        assert installed(server) == []


def test_a_host_without_room_is_refused(reach: Callable[..., Ssh]) -> None:
    with sshd.serve(size="64m") as server, pytest.raises(NeedError, match="too full"):
        reach(server).check()


def test_a_disk_that_fills_up_while_we_copy_keeps_nothing(
    reach: Callable[..., Ssh], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_host, "ROOM", 0)
    with sshd.serve(size="64m") as server:
        target = reach(server)
        with pytest.raises(NeedError, match=r"too full.*No space left"):
            target.prepare(quiet)
        assert installed(server) == []


def test_commands_reach_the_host_word_for_word(server: Server, reach: Callable[..., Ssh]) -> None:
    reach(server)
    connection = Connection(host(NAME))
    words = ["a b", "$HOME", "it's", '"', "\\", "*", "two\nlines", ""]
    done = connection.run("printf", "<%s>", *words, timeout=30)
    assert done.stdout == "".join(f"<{word}>" for word in words)
    connection.close()


EXPERIMENT = """
workloads = ["plain"]
blocks = 2
warmup_seconds = 0.5
warmup_limit_seconds = 1.0
switched_seconds = 1.0
steady_seconds = 1.0
metered_seconds = 0.5
calibration_seconds = 1.0
replacements = 0
loads = {plain = {rate = 300}}

[[arms]]
name = "baseline"

[[arms]]
name = "http"
collectors = ["http"]
"""


def asked_for(tmp_path: Path, target: str) -> list[str]:
    path = tmp_path / "tiny.toml"
    path.write_text(EXPERIMENT)
    argv = [sys.executable, "-m", "harness", "evaluate", str(path), "--target", target]
    return [*argv, "--reports", str(tmp_path), "--run", RUN]


def statuses(tmp_path: Path) -> dict[str, str]:
    found = sorted((tmp_path / RUN / "trials").glob("*/trial.json"))
    return {path.parent.name: json.loads(path.read_text())["status"] for path in found}


def nothing_is_left(server: Server) -> bool:
    left = [*server.path("/run").glob("harness*"), *server.path("/var/lib").iterdir()]
    return not left and not run_cgroup().exists()


def test_an_evaluation_over_ssh_copies_back_what_it_measured_and_leaves_nothing(
    server: Server, reach: Callable[..., Ssh], tmp_path: Path
) -> None:
    target = reach(server)
    done = processes.run(asked_for(tmp_path, target.name), check=False, timeout=300)
    assert done.returncode in (0, 3), done.stderr  # 3: on a busy machine no trial may be usable
    found = statuses(tmp_path)
    assert len(found) == 6
    assert set(found.values()) == {"ok"}
    assert json.loads((tmp_path / RUN / "run.json").read_text())["target"] == target.name
    for name in found:
        assert (tmp_path / RUN / "trials" / name / "requests.npz").exists()
        assert (tmp_path / RUN / "trials" / name / "agent-http.log").exists() == ("http" in name)
    assert (tmp_path / RUN / "report.html").exists()
    assert nothing_is_left(server)


def test_an_evaluation_goes_on_with_a_new_node_when_the_connection_was_cut(
    server: Server, reach: Callable[..., Ssh], tmp_path: Path
) -> None:
    target, log = reach(server), tmp_path / "evaluate.log"
    evaluation = processes.connect(asked_for(tmp_path, target.name), log=log)
    while not statuses(tmp_path):
        assert evaluation.poll() is None, log.read_text()
        time.sleep(0.05)
    os.kill(holder(evaluation.pid), signal.SIGKILL)
    processes.ended(evaluation, 300)
    assert "The node process was lost." in log.read_text()
    found = statuses(tmp_path)
    assert [status for name, status in found.items() if "-b1-" in name] == ["ok"] * 3
    assert [*found.values()].count("failed") <= 1
    assert json.loads((tmp_path / RUN / "run.json").read_text())["complete"] is False
    assert nothing_is_left(server)
    argv = [sys.executable, "-m", "harness", "evaluate", "--resume", str(tmp_path / RUN)]
    done = processes.run(argv, check=False, timeout=300)
    assert done.returncode in (0, 3), done.stderr
    assert json.loads((tmp_path / RUN / "run.json").read_text())["complete"] is True
    assert nothing_is_left(server)


def holder(pid: int) -> int:
    """The process that holds the connection of the evaluation with this pid."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    held = (
        int(each) for each in children if b"\0-M\0" in Path(f"/proc/{each}/cmdline").read_bytes()
    )
    return next(held)
