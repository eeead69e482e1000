"""Rules for files mean the files that are there now: replaced, made later, behind links of a root.

What is found out by the timer, every ten seconds, is not waited for here: it is put off.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.linux import processes
from harness.wire import control
from tests.bpf.guarded import HUNG, hooks, logs, policy
from tests.waiting import until

pytestmark = pytest.mark.bpf

# The agent, without what it does every ten seconds.
AGENT = """
import sys
from harness.agent import policy_maps
policy_maps.REFRESH_SECONDS = 1e9
from harness.agent.__main__ import main
sys.exit(main(sys.argv[4:]))
"""
# A call of the kernel that never returns, from the moment that a file is there.
HUNG_CALL = """
import os, sys, time
from harness.agent import fanotify, inotify, policy_maps
policy_maps.REFRESH_SECONDS = 0.1
called = {place}
def hung(self, path):
    while os.path.exists({flag!r}):
        open({flag!r} + ".seen", "w").close()
        time.sleep(0.1)
    return called(self, path)
{place} = hung
from harness.agent.__main__ import main
sys.exit(main(sys.argv[4:]))
"""
# Nobody waits for such a call for long.
SOON = """
from harness.agent import bounded
bounded.WAIT_SECONDS = 0.5
"""
OPEN_IN_ROOT = """
import os, sys
os.chroot(sys.argv[1])
os.open(sys.argv[2], os.O_RDONLY)
"""
HOLD = """
import os, sys, time
os.chroot(sys.argv[1])
print('{"ready": true, "port": 1}', flush=True)
time.sleep(600)
"""


@pytest.fixture
def start(start_through: Any) -> Callable[..., control.Client]:
    """Start such an agent with a policy, by a hook."""

    def started(
        hook: str, *rules: tuple[str, str, str], folder: Path, code: str = AGENT
    ) -> control.Client:
        client: control.Client = start_through(
            "guard", code, *policy(folder, *rules), "--open-hook", hook
        )
        return client

    return started


def killed(service: Any, secret: Path) -> bool:
    return bool(service.start("/bin/cat", str(secret)).wait(60) == -signal.SIGKILL)


@pytest.mark.parametrize("hook", hooks())
def test_a_file_that_is_replaced_is_watched(
    start: Any, service: Any, tmp_path: Path, hook: str
) -> None:
    secret = tmp_path / "folder" / "secret"
    secret.parent.mkdir()
    secret.write_text("old\n")
    client = start(hook, ("open", str(secret), "kill"), folder=tmp_path)
    assert killed(service, secret)
    for again in range(3):
        (tmp_path / "new").write_text(f"new {again}\n")
        os.replace(tmp_path / "new", secret)
        assert until(partial(killed, service, secret))
    client.call("off")
    assert not killed(service, secret)
    assert processes.run(["/bin/cat", str(secret)]).stdout == "new 2\n"


@pytest.mark.parametrize("hook", hooks())
def test_files_and_folders_that_come_later_are_watched(
    start: Any, service: Any, receiver: Any, tmp_path: Path, hook: str
) -> None:
    homes = tmp_path / "homes"
    homes.mkdir()
    rules = (
        ("open", f"{homes}/*/.ssh/id_*", "kill"),
        ("open", f"{tmp_path}/missing/key", "kill"),
        ("open", f"{homes}/*/.ssh/id_*.pub", "ignore"),
    )
    client = start(hook, *rules, folder=tmp_path)
    for key in (homes / "new" / ".ssh" / "id_rsa", tmp_path / "missing" / "key"):
        key.parent.mkdir(parents=True)
        key.write_text("key\n")
        key.with_suffix(".pub").write_text("public\n")
        assert until(partial(killed, service, key))
        assert not killed(service, key.with_suffix(".pub"))
        assert processes.run(["/bin/cat", str(key)]).stdout == "key\n"
    client.call("flush")
    assert {each["file.path"] for each in logs(receiver, "file.open")} == {
        str(homes / "new" / ".ssh" / "id_rsa"),
        str(tmp_path / "missing" / "key"),
    }


@pytest.mark.parametrize("hook", hooks())
def test_a_link_that_leads_elsewhere_is_followed(
    start: Any, service: Any, tmp_path: Path, hook: str
) -> None:
    """As Kubernetes rotates what it mounts of secrets: the folder's link is renamed over."""
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "key").write_text(version)
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "key").symlink_to("data/key")
    start(hook, ("open", f"{tmp_path}/key", "kill"), folder=tmp_path)
    assert killed(service, tmp_path / "key")
    (tmp_path / "next").symlink_to("two")
    os.replace(tmp_path / "next", tmp_path / "data")
    assert until(partial(killed, service, tmp_path / "key"))


@pytest.mark.parametrize("hook", hooks())
def test_links_are_followed_in_the_root_that_they_are_in(
    start: Any, service: Any, receiver: Any, tmp_path: Path, hook: str
) -> None:
    """A link to an absolute path leads to a file of the container, not to one of this machine."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "own").write_text("secret\n")
    (root / "etc" / "secret-of-a-test").symlink_to("/own")
    service.serve(sys.executable, "-S", "-c", HOLD, str(root))
    client = start(hook, ("open", "/etc/secret-*", "kill"), folder=tmp_path)
    opener = (sys.executable, "-S", "-c", OPEN_IN_ROOT, str(root), "/etc/secret-of-a-test")
    assert service.start(*opener).wait(60) == -signal.SIGKILL
    assert processes.run(["/bin/cat", str(root / "own")]).stdout == "secret\n"
    client.call("flush")
    (opened,) = logs(receiver, "file.open")
    assert opened["file.path"] == ("/etc/secret-of-a-test" if hook == "fanotify" else f"{root}/own")


def _next_pid(number: int) -> None:
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(number - 1))


def test_another_process_with_the_number_of_one_that_ended_is_not_taken_for_it(
    start: Any, service: Any, receiver: Any, tmp_path: Path
) -> None:
    if not Path("/proc/sys/kernel/ns_last_pid").exists():
        pytest.skip("this kernel does not let anybody choose the next process's number")
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    client = start("fanotify", ("open", str(secret), "report"), folder=tmp_path)
    first = service.start("/bin/cat", str(secret))
    first.wait(60)
    client.call("flush")
    assert len(logs(receiver, "file.open")) == 1

    def same_number() -> bool:
        """Somebody else's process reads it; others may take the number before."""
        with suppress(OSError):
            _next_pid(first.pid)
        pid = os.posix_spawn("/bin/cat", ["cat", str(secret)], {})
        os.waitpid(pid, 0)
        return pid == first.pid

    if not until(same_number):
        pytest.skip("the number of the process that ended could not be had again")
    client.call("flush")
    assert len(logs(receiver, "file.open")) == 1


def test_a_file_system_that_never_answers_holds_up_no_event(
    start: Any, service: Any, receiver: Any, tmp_path: Path, agents: list[processes.Process]
) -> None:
    flag = tmp_path / "hung"
    rules = ("exec", "/bin/true", "kill"), ("exec", "*", "report"), ("open", "/nowhere/*", "report")
    client = start("best", *rules, folder=tmp_path, code=HUNG.format(flag=str(flag)))
    client.call("flush")
    flag.touch()
    assert until(lambda: client.call("flush")["errors"] == 0 and Path(f"{flag}.seen").exists())
    assert service.start("/bin/true").wait(60) == -signal.SIGKILL
    assert service.start("/bin/cat", "/dev/null").wait(60) == 0
    client.call("flush")
    told = [each["guard.action"] for each in logs(receiver, "process.exec")]
    assert told == ["kill", "report"]
    for command in ("off", "on", "off", "stop"):
        assert client.call(command)
    assert until(lambda: agents[0].poll() is not None)


@pytest.mark.parametrize("place", ["fanotify.Group.mark", "inotify.Inotify.watch"])
@pytest.mark.parametrize("ending", ["stop", "SIGTERM"])
def test_a_file_or_folder_that_cannot_be_watched_for_ever_holds_up_no_end(
    start: Any, tmp_path: Path, agents: list[processes.Process], place: str, ending: str
) -> None:
    flag, secret = tmp_path / "hung", tmp_path / "secret"
    secret.touch()
    code = SOON + HUNG_CALL.format(flag=str(flag), place=place)
    client = start("fanotify", ("open", str(secret), "report"), folder=tmp_path, code=code)
    flag.touch()
    assert until(lambda: client.call("flush")["errors"] == 0 and Path(f"{flag}.seen").exists())
    for command in ("off", "on", "flush"):
        assert client.call(command)
    if ending == "stop":
        client.call("stop")
    else:
        agents[0].send_signal(signal.SIGTERM)
    assert until(lambda: agents[0].poll() is not None)


def test_a_cgroup_that_comes_back_where_no_file_system_answers_holds_up_no_end(
    start: Any, service: Any, tmp_path: Path, agents: list[processes.Process]
) -> None:
    flag = tmp_path / "hung"
    code = HUNG.format(flag=str(flag)).replace("REFRESH_SECONDS = 0.1", "REFRESH_SECONDS = 1e9")
    code = SOON + code
    client = start("best", ("open", "/nowhere/*", "report"), folder=tmp_path, code=code)
    flag.touch()
    service.remove()
    service.started.clear()
    service.path.mkdir()
    log = tmp_path / "agent.log"
    assert until(lambda: "does not answer" in log.read_text())
    assert client.call("off")
    client.call("stop")
    assert until(lambda: agents[0].poll() is not None)
