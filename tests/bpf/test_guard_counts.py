"""What `guard` could not tell is counted, by kind; what it stopped is counted whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.agent import ended, policy_paths
from harness.agent import policy as policies
from harness.agent.libbpf import Object
from harness.agent.policy import Rule
from tests.bpf.guarded import counted, logs, policy
from tests.waiting import until

pytestmark = pytest.mark.bpf

BURST = 600  # more than the ring has room for
EXECUTE = """
import os, sys
for number in range(int(sys.argv[1])):
    program = sys.argv[2 + (number % 100 == 99)]
    if not (pid := os.fork()):
        os.execv(program, [program])
    os.waitpid(pid, 0)
"""


def test_a_burst_hides_nothing_unsaid_and_what_was_stopped_is_told(
    tmp_path: Path, service: Any, start_agent: Any, receiver: Any
) -> None:
    evil = tmp_path / "evil"
    shutil.copy("/bin/true", evil)
    rules = ("exec", "*", "report"), ("exec", str(evil), "kill")
    agent = start_agent("guard", *policy(tmp_path, *rules), "--drain", "100", "--interval", "100")
    code = (sys.executable, "-S", "-c", EXECUTE, str(BURST), "/bin/true", str(evil))
    agent.process.send_signal(signal.SIGSTOP)  # else it is woken when the buffer fills
    assert service.start(*code).wait(60) == 0
    agent.process.send_signal(signal.SIGCONT)
    counts = agent.call("flush")
    told = [each["guard.action"] for each in logs(receiver, "process.exec")]
    stopped = BURST // 100
    assert told.count("kill") == stopped
    assert counts["events"] == BURST + 1
    assert counts["lost"] == BURST + 1 - len(told) > 0
    assert counted(receiver, "guard.decisions") == {
        ("process.exec", "kill"): stopped,
        ("process.exec", "report"): BURST + 1 - stopped,
    }
    assert counted(receiver, "guard.events.lost") == {
        ("process.exec", "kill"): 0,
        ("process.exec", "report"): counts["lost"],
    }


def test_what_was_stopped_is_counted_though_nothing_of_it_can_be_told(
    tmp_path: Path, service: Any, start_agent: Any, receiver: Any
) -> None:
    evil = tmp_path / "evil"
    shutil.copy("/bin/true", evil)
    rules = (("exec", str(evil), "kill"),)
    agent = start_agent("guard", *policy(tmp_path, *rules), "--drain", "100", "--interval", "100")
    code = (sys.executable, "-S", "-c", EXECUTE, str(BURST), str(evil), str(evil))
    agent.process.send_signal(signal.SIGSTOP)  # else it is woken when the buffer fills
    assert service.start(*code).wait(60) == 0
    agent.process.send_signal(signal.SIGCONT)
    agent.call("flush")
    told = logs(receiver, "process.exec")
    assert counted(receiver, "guard.decisions") == {("process.exec", "kill"): BURST}
    assert counted(receiver, "guard.events.lost") == {("process.exec", "kill"): BURST - len(told)}
    assert 0 < len(told) < BURST


# Opens a file in a process of its own, then starts and ends so many others.
OPEN_AND_FORK = """
import os, sys
if not os.fork():
    os.open(sys.argv[1], os.O_RDONLY)
    os._exit(0)
os.wait()
for _ in range(int(sys.argv[2])):
    if not os.fork():
        os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize("others", [50, 5000])
def test_who_opened_is_told_or_counted_however_many_ended_since(
    tmp_path: Path, service: Any, start_agent: Any, receiver: Any, others: int
) -> None:
    """With fanotify, which tells no cgroup: the kernel half remembers so many, and no more."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    option = policy(tmp_path, ("open", str(secret), "report"))
    agent = start_agent("guard", *option, "--open-hook", "fanotify")
    agent.process.send_signal(signal.SIGSTOP)  # else it looks meanwhile
    code = (sys.executable, "-S", "-c", OPEN_AND_FORK, str(secret), str(others))
    assert service.start(*code).wait(60) == 0
    agent.process.send_signal(signal.SIGCONT)
    counts = agent.call("flush")
    told = len(logs(receiver, "file.open"))
    assert told + counts["lost"] == 1
    assert told == 1 or others > 50
    assert counted(receiver, "guard.events.lost")["file.open", "report"] == counts["lost"]


# Its first thread ends at once, by the system call; another one opens a file when it is told to.
OUTLIVE = """
import ctypes, os, platform, sys, threading, time
number = {"x86_64": 60, "aarch64": 93}[platform.machine()]
def work():
    while not os.path.exists(sys.argv[2]):
        time.sleep(0.01)
    os.open(sys.argv[1], os.O_RDONLY)
    os._exit(0)
threading.Thread(target=work).start()
ctypes.CDLL(None).syscall(number, 0)
"""


def test_who_opened_is_told_though_the_first_thread_had_ended_long_before(
    tmp_path: Path, service: Any, start_agent: Any, receiver: Any
) -> None:
    secret, go = tmp_path / "secret", tmp_path / "go"
    secret.write_text("secret")
    option = policy(tmp_path, ("open", str(secret), "report"))
    agent = start_agent("guard", *option, "--open-hook", "fanotify")
    process = service.start(sys.executable, "-c", OUTLIVE, str(secret), str(go))
    state = Path(f"/proc/{process.pid}/task/{process.pid}/stat")
    assert until(lambda: state.read_text().rpartition(")")[2].split()[0] == "Z")
    agent.call("flush")
    agent.call("flush")
    agent.process.send_signal(signal.SIGSTOP)  # it looks when the process is gone
    go.touch()
    assert process.wait(60) == 0
    agent.process.send_signal(signal.SIGCONT)
    counts = agent.call("flush")
    (opened,) = logs(receiver, "file.open")
    assert (opened["process.pid"], counts["lost"]) == (process.pid, 0)


@contextmanager
def alone(objects: Path, service: Any, name: str) -> Iterator[Object]:
    """One program of the kernel half, with two slots to work in, of what the cgroup does."""
    with closing(Object(objects / "guard.bpf.o")) as obj:
        for program in obj.programs:
            if program.name != name:
                program.skip()
        obj.map("scratches").resize(2)
        obj.set("targ_slots", 2)
        obj.load()
        directory = os.open(service.path, os.O_RDONLY | os.O_DIRECTORY)
        obj.map("scope").update(bytes(4), directory.to_bytes(4, sys.byteorder))
        os.close(directory)
        link = obj.program(name).attach()
        yield obj
        link.destroy()


# Threads that have a name of their own and wait, and what the process does with them.
THREADS = """
import ctypes, os, platform, threading, time
number = {"x86_64": 60, "aarch64": 93}[platform.machine()]
go = threading.Event()
leader = f"/proc/self/task/{os.getpid()}/stat"
def wait_and(do=lambda: None):
    with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w") as file:
        file.write("worker")
    go.wait()
    do()
def outlive():
    while open(leader).read().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    os._exit(0)
threads = [threading.Thread(target=wait_and, daemon=True) for _ in range(20)]
for each in threads: each.start()
"""
ENDINGS = {
    "threads first": "go.set()\nfor each in threads: each.join()",
    "all at once": "os._exit(0)",
    "the first thread first": (
        "threading.Thread(target=wait_and, args=(outlive,)).start(); go.set()\n"
        "ctypes.CDLL(None).syscall(number, 0)"
    ),
    "as another program": (
        "execute = lambda: os.execv('/bin/true', ['true'])\n"
        "threading.Thread(target=wait_and, args=(execute,)).start(); go.set(); time.sleep(60)"
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_process_ends_once_however_many_threads_it_has(
    bpf_objects: Path, service: Any, ending: str
) -> None:
    with alone(bpf_objects, service, "on_exit") as obj:
        code = THREADS + ENDINGS[ending]
        started = [service.start(sys.executable, "-S", "-c", code) for _ in range(7)]
        assert [each.wait(60) for each in started] == [0] * 7
        assert int.from_bytes(obj.get("exits"), sys.byteorder) == 7
        found = {key: ended.LAYOUT.unpack(value)[4] for key, value in obj.map("ended").items()}
        name = "true" if ending == "as another program" else Path(sys.executable).name
        comm = name.encode()[:15].ljust(16, b"\0")
        assert found == {each.pid.to_bytes(4, sys.byteorder): comm for each in started}


@pytest.fixture
def watched(bpf_objects: Path, service: Any) -> Iterator[Object]:
    """The kernel half alone, telling of what the cgroup executes."""
    with alone(bpf_objects, service, "on_exec") as obj:
        rules = (Rule("all", "exec", ("*",), "report"),)
        for key, value in policy_paths.tries(rules)[0].items():
            obj.map("prefixes").update(key, value)
        yield obj


@pytest.fixture
def numbers(watched: Object) -> Callable[[], tuple[int, int]]:
    """Executions that were decided on, and that could not be judged."""

    def read() -> tuple[int, int]:
        decided, lost = (struct.unpack("=12Q", watched.get(name)) for name in ("decided", "lost"))
        first = len(policies.ACTIONS) * policies.EVENTS["exec"]
        return decided[first + policies.ACTIONS["report"]], lost[first + policies.ACTIONS["ignore"]]

    return read


def test_a_slot_that_a_program_is_in_is_left_alone(
    watched: Object, numbers: Callable[[], tuple[int, int]], service: Any
) -> None:
    """As when it was interrupted there: another one works elsewhere, or says that it cannot."""
    slots = watched.map("scratches")
    mine = (1).to_bytes(8, sys.byteorder) + b"\xab" * (slots.value_size - 8)
    first, second = (number.to_bytes(4, sys.byteorder) for number in (0, 1))
    slots.update(first, mine)
    assert service.start("/bin/true").wait(60) == 0
    assert slots.lookup(first) == mine
    assert numbers() == (1, 0)
    slots.update(second, mine)
    assert service.start("/bin/true").wait(60) == 0
    assert slots.lookup(first) == slots.lookup(second) == mine
    assert numbers() == (1, 1)
    slots.update(first, bytes(slots.value_size))
    for _ in range(3):
        assert service.start("/bin/true").wait(60) == 0
    assert numbers() == (4, 1)
    assert slots.lookup(second) == mine
