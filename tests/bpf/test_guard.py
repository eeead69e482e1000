"""`guard` on the real kernel: an exact number of events, and kills inside the cgroup only."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from harness.linux import processes
from tests.bpf.guarded import counted, logs, policy

pytestmark = pytest.mark.bpf

EXECUTE = """
import subprocess, sys
for _ in range(int(sys.argv[1])):
    subprocess.run(["/bin/true", "one", "two words"], check=True)
"""

CONNECT = """
import socket, sys
for _ in range(int(sys.argv[2])):
    socket.create_connection((sys.argv[3], int(sys.argv[1]))).close()
"""

# Reads the file given without executing anything, from a process that ends at once.
FORK_AND_READ = """
import os, sys
for _ in range(int(sys.argv[2])):
    if os.fork() == 0:
        os.open(sys.argv[1], os.O_RDONLY)
        os._exit(0)
    os.wait()
"""


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        yield listening


@pytest.fixture
def secret(tmp_path):
    file = tmp_path / "secret"
    file.write_text("secret\n")
    return file


def test_23_executions(service, start_agent, receiver):
    agent = start_agent("guard")
    process = service.start(sys.executable, "-c", EXECUTE, "23")
    assert process.wait(60) == 0
    counts = agent.call("flush")
    executed = logs(receiver, "process.exec")
    assert len(executed) == 24
    assert executed[0]["process.pid"] == process.pid
    assert executed[0]["process.parent_pid"] == os.getpid()
    assert executed[0]["process.executable.path"] == os.path.realpath(sys.executable)
    assert executed[0]["process.command_args"][1:] == ["-c", EXECUTE, "23"]
    for each in executed[1:]:
        assert each["process.executable.path"] == os.path.realpath("/bin/true")
        assert each["process.parent_pid"] == process.pid
        assert each["process.command_args"] == ["/bin/true", "one", "two words"]
        assert each["guard.rule"] == "executions"
    assert len({each["process.pid"] for each in executed}) == 24
    assert counts["lost"] == 0
    assert counts["events"] == 24
    assert [(receiver.attributes(p), p.as_int) for p in receiver.points("guard.events")] == [
        ({"event.name": "process.exec"}, 24)
    ]


def test_23_connects_become_one_record(service, start_agent, receiver, listener):
    port = listener.getsockname()[1]
    agent = start_agent("guard", "--drain", "100")
    process = service.start(sys.executable, "-c", CONNECT, str(port), "23", "127.0.0.1")
    assert process.wait(60) == 0
    agent.call("flush")
    (connect,) = logs(receiver, "network.connect")
    assert connect == {
        "process.pid": process.pid,
        "process.parent_pid": os.getpid(),
        "process.executable.name": Path(sys.executable).name,
        "process.executable.path": os.path.realpath(sys.executable),
        "network.transport": "tcp",
        "network.type": "ipv4",
        "network.peer.address": "127.0.0.1",
        "network.peer.port": port,
        "guard.count": 23,
        "guard.rule": "connections",
        "guard.action": "report",
    }
    agent.call("flush")
    assert len(logs(receiver, "network.connect")) == 1


def test_connects_over_ipv6(service, start_agent, receiver):
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").read_text().strip():
        pytest.skip("this machine has no IPv6")
    with socket.create_server(("::1", 0), family=socket.AF_INET6, backlog=64) as listening:
        port = listening.getsockname()[1]
        agent = start_agent("guard", "--drain", "100")
        process = service.start(sys.executable, "-c", CONNECT, str(port), "3", "::1")
        assert process.wait(60) == 0
        agent.call("flush")
    (connect,) = logs(receiver, "network.connect")
    assert connect["network.peer.address"] == "::1"
    assert connect["guard.count"] == 3


def test_public_leaves_private_peers_out(tmp_path, service, start_agent, receiver, listener):
    agent = start_agent("guard", *policy(tmp_path, ("connect", "public", "report")))
    port = str(listener.getsockname()[1])
    assert service.start(sys.executable, "-c", CONNECT, port, "3", "127.0.0.1").wait(60) == 0
    assert agent.call("flush")["events"] == 0
    assert logs(receiver, "network.connect") == []


def test_a_sensitive_file_is_reported_with_who_opened_it(service, start_agent, receiver):
    agent = start_agent("guard")
    process = service.start("/bin/cat", "/etc/shadow")
    assert process.wait(60) == 0
    processes.run(["/bin/cat", "/etc/shadow"])  # somebody else
    agent.call("flush")
    (opened,) = logs(receiver, "file.open")
    assert opened["file.path"] == "/etc/shadow"
    assert opened["process.pid"] == process.pid
    assert opened["process.parent_pid"] == os.getpid()
    assert opened["process.executable.path"] == os.path.realpath("/bin/cat")
    assert opened["guard.rule"] == "secrets"


def test_23_openers_that_end_at_once(service, start_agent, receiver, secret):
    agent = start_agent("guard", *policy(secret.parent, ("open", str(secret), "report")))
    argv = (sys.executable, "-c", FORK_AND_READ, str(secret), "23")
    assert service.start(*argv).wait(60) == 0
    processes.run(argv)
    agent.call("flush")
    opened = logs(receiver, "file.open")
    assert len(opened) == 23
    assert len({each["process.pid"] for each in opened}) == 23


def test_files_can_be_watched_besides_those_of_the_default(
    tmp_path, secret, service, start_agent, receiver
):
    agent = start_agent("guard", "--watch", f"{tmp_path}/secre*")
    argv = (sys.executable, "-c", FORK_AND_READ, str(secret), "23")
    assert service.start(*argv).wait(60) == 0
    agent.call("flush")
    opened = logs(receiver, "file.open")
    assert len(opened) == 23
    assert {(each["file.path"], each["guard.rule"]) for each in opened} == {
        (str(secret), "watched")
    }


def test_a_kill_rule_ends_a_shell_in_the_cgroup_only(tmp_path, service, start_agent, receiver):
    agent = start_agent("guard", *policy(tmp_path, ("exec", "/bin/sh", "kill")))
    marker = tmp_path / "marker"
    (tmp_path / "link").symlink_to("/bin/sh")
    for spelling in ("/bin/sh", "/usr/bin/../bin/sh", str(tmp_path / "link")):
        assert service.start(spelling, "-c", f"echo ran > {marker}").wait(60) == -9
    assert not marker.exists()
    assert service.start("/bin/true").wait(60) == 0
    assert processes.run(["/bin/sh", "-c", "exit 7"], check=False).returncode == 7
    agent.call("flush")
    killed = logs(receiver, "process.exec")
    assert [each["guard.action"] for each in killed] == ["kill"] * 3
    assert {each["process.executable.path"] for each in killed} == {os.path.realpath("/bin/sh")}
    agent.call("off")
    assert service.start("/bin/sh", "-c", "exit 7").wait(60) == 7


@pytest.mark.parametrize("names", [["n" * 200] * 4, ["d"] * 300])
def test_a_long_way_down_is_no_way_out(names, tmp_path, service, start_agent, receiver):
    agent = start_agent("guard", *policy(tmp_path, ("exec", f"{tmp_path}/*", "kill")))
    folder = tmp_path.joinpath(*names)
    folder.mkdir(parents=True)
    shutil.copy("/bin/true", folder / "program")
    assert service.start(str(folder / "program")).wait(60) == -9
    agent.call("flush")
    (killed,) = logs(receiver, "process.exec")
    assert str(folder / "program").startswith(killed["process.executable.path"])


def test_the_longest_pattern_decides(tmp_path, service, start_agent, receiver):
    folder = tmp_path / "put" / "there"
    folder.mkdir(parents=True)
    for name in ("any", "good", "miner"):
        shutil.copy("/bin/true", folder / name)
    shutil.copy("/bin/true", tmp_path / "miner")
    agent = start_agent(
        "guard",
        *policy(
            tmp_path,
            ("exec", "*", "report"),
            ("exec", f"{tmp_path}/put/*", "kill"),
            ("exec", f"{folder}/good", "ignore"),
            ("exec", "*/miner", "kill"),
        ),
    )
    assert service.start(str(folder / "any")).wait(60) == -9
    assert service.start(str(folder / "good")).wait(60) == 0
    assert service.start(str(tmp_path / "miner")).wait(60) == -9
    assert service.start("/bin/true").wait(60) == 0
    agent.call("flush")
    seen = [(each["guard.rule"], each["guard.action"]) for each in logs(receiver, "process.exec")]
    assert seen == [("r1", "kill"), ("r3", "kill"), ("r0", "report")]


def test_a_kill_rule_for_a_file_leaves_others_unharmed(service, start_agent, receiver, secret):
    agent = start_agent("guard", *policy(secret.parent, ("open", str(secret), "kill")))
    thief = service.start("/bin/cat", str(secret))
    for _ in range(23):
        assert processes.run(["/bin/cat", str(secret)]).stdout == "secret\n"
    assert thief.wait(60) == -9
    assert thief.log.read_text() == ""
    agent.call("flush")
    (opened,) = logs(receiver, "file.open")
    assert opened["process.pid"] == thief.pid
    assert opened["file.path"] == str(secret)
    assert opened["guard.action"] == "kill"
    agent.call("off")
    assert service.start("/bin/cat", str(secret)).wait(60) == 0


def test_a_dead_agent_blocks_nobody(service, start_agent, secret):
    agent = start_agent("guard", *policy(secret.parent, ("open", str(secret), "kill")))
    agent.process.kill()
    agent.process.wait(60)
    assert service.start("/bin/cat", str(secret)).wait(60) == 0


def test_a_kill_rule_for_a_connection(tmp_path, service, start_agent, receiver, listener):
    agent = start_agent("guard", *policy(tmp_path, ("connect", "127.0.0.1", "kill")))
    port = listener.getsockname()[1]
    code = f"""
import socket, time
try:
    socket.create_connection(("127.0.0.1", {port}))
except PermissionError:
    time.sleep(20)
"""
    assert service.start(sys.executable, "-c", code).wait(60) == -9
    listener.settimeout(0.1)
    with pytest.raises(TimeoutError):
        listener.accept()
    listener.settimeout(60)
    with socket.create_connection(("127.0.0.1", port)):  # not of the cgroup
        listener.accept()[0].close()
    agent.call("flush")
    (connect,) = logs(receiver, "network.connect")
    assert connect["guard.action"] == "kill"


def test_off_sees_and_does_nothing(service, start_agent, receiver, secret, listener):
    rules = (
        ("exec", "/bin/true", "kill"),
        ("open", str(secret), "report"),
        ("connect", "0.0.0.0/0", "report"),
    )
    agent = start_agent("guard", *policy(secret.parent, *rules), "--off")

    def act() -> None:
        port = str(listener.getsockname()[1])
        assert service.start(sys.executable, "-c", CONNECT, port, "3", "127.0.0.1").wait(60) == 0
        assert service.start("/bin/cat", str(secret)).wait(60) == 0

    act()
    assert service.start("/bin/true").wait(60) == 0
    assert agent.call("flush")["events"] == 0
    agent.call("on")
    act()
    assert agent.call("flush")["events"] == 4
    agent.call("off")
    act()
    assert agent.call("flush")["events"] == 4
    assert sum(each["guard.count"] for each in logs(receiver, "network.connect")) == 3
    assert len(logs(receiver, "file.open")) == 1


def test_what_does_not_fit_is_counted_as_lost(service, start_agent, receiver):
    agent = start_agent("guard")
    agent.process.send_signal(signal.SIGSTOP)  # else it is woken when the buffer fills
    assert service.start(sys.executable, "-c", EXECUTE, "600").wait(60) == 0
    agent.process.send_signal(signal.SIGCONT)
    counts = agent.call("flush")
    arrived = len(logs(receiver, "process.exec"))
    assert counts["events"] == 601
    assert 0 < counts["lost"] == 601 - arrived
    assert counted(receiver, "guard.events.lost")["process.exec", "report"] == counts["lost"]


def test_the_shipped_policy_is_the_default():
    from harness.agent import policy as policies

    shipped = Path(__file__).parents[2] / "experiments" / "policies" / "guard.toml"
    assert policies.load(shipped) == policies.DEFAULT


def test_a_wrong_policy_is_told(tmp_path, service, launch, receiver):
    option = policy(tmp_path, ("execute", "/bin/sh", "kill"))
    socket_path = tmp_path / "socket"
    process, ready = launch(
        tmp_path / "log", "guard", socket_path, service.path, receiver.url, *option
    )
    assert process.wait(60) == 2
    processes.stop(process)
    assert ready["ready"] is False
    assert "execute" in ready["what"]
    assert "exec, open" in ready["next_step"]


def test_hooks_and_memory(service, start_agent):
    agent = start_agent("guard")
    hooks = agent.ready["hooks"]
    assert {"tp_btf/sched_process_exec", "cgroup/connect4", "cgroup/sendmsg6"} <= set(hooks)
    assert len({"lsm/file_open", "fentry/security_file_open", "fanotify/open"} & set(hooks)) == 1
    time.sleep(0.1)
    rollup = Path(f"/proc/{agent.process.pid}/smaps_rollup").read_text()
    pss = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    assert pss < 50 * 1024
    assert json.dumps(agent.ready)
