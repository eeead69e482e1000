"""23 events of each kind, and what the collector says it saw of them; `inside` runs them all.

The events are those of tests/bpf, which say more of each; here all collectors and hooks are in one
list, for a table.
"""

from __future__ import annotations

import http.client
import os
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from harness.linux import processes
from harness.meters import bpfstats
from tests.bpf.layers import overlay
from tests.kernels import patience
from tests.kernels.debian import ROOT
from tests.kernels.scene import EVENTS, Scene

SERVER = ROOT / "tests" / "bpf" / "http_server.py"
_TRIES = 300
_SECONDS = 600  # for what no sign of progress is had of
_EXTRA = 1.2  # what is sent again counts as a response, too: as much more at most
_SPAWN = "import subprocess, sys\nfor _ in range(int(sys.argv[1])): subprocess.run(['/bin/true'])"
_CONNECT = (
    "import socket, sys\nfor _ in range(int(sys.argv[2])):\n"
    "    socket.create_connection(('127.0.0.1', int(sys.argv[1]))).close()"
)
_OPEN = (
    "import os, sys\nfor _ in range(int(sys.argv[2])):\n"
    "    if os.fork() == 0:\n        os.open(sys.argv[1], os.O_RDONLY)\n        os._exit(0)\n"
    "    os.wait()"
)
_FROM_MEMORY = (
    "import os, sys\nfor _ in range(int(sys.argv[1])):\n    if os.fork() == 0:\n"
    "        fd, data = os.memfd_create('evil', 0), open('/bin/true', 'rb').read()\n"
    "        while data: data = data[os.write(fd, data):]\n"
    "        os.execve(fd, ['good'], {})\n"
    "    assert os.wait()[1] == 9"
)
_SEND = (
    "import socket, sys\ns = socket.socket(type=socket.SOCK_DGRAM)\n"
    "for _ in range(int(sys.argv[1])): s.sendto(b'x', ('127.0.0.1', 9))"
)
_OPTIONS = "import socket\ns = socket.socket()\nfor _ in range(23): s.getsockopt(1, 3)"
_BURN = "while True: pass"


@dataclass(frozen=True)
class Case:
    """Options of a collector, what they are called in the table, and how events are made."""

    collector: str
    what: str
    act: Callable[[Scene], int]
    options: tuple[str, ...] = ()
    policy: tuple[str, str, str] | None = None  # event, match, action

    def prepare(self, folder: Path) -> list[str]:
        """Its options, with a policy file and what that names in `folder`."""
        if self.policy is None:
            return list(self.options)
        event, match, action = self.policy
        (folder / "secret").write_text("secret\n")
        (folder / "merged").mkdir()  # where a test mounts an overlay, of which the agent hears now
        (folder / "policy.toml").write_text(
            f'[[rules]]\nevent = "{event}"\nmatch = "{match.format(folder=folder)}"\n'
            f'action = "{action}"\n'
        )
        return [*self.options, "--policy", str(folder / "policy.toml")]


def _requests(scene: Scene, path: str = "/") -> None:
    port = scene.service.serve(sys.executable, str(SERVER), "127.0.0.1")
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)) as connection:
        for _ in range(EVENTS):
            connection.request("GET", path)
            connection.getresponse().read()


def requests(scene: Scene) -> int:
    """HTTP requests on one connection."""
    _requests(scene)
    return scene.counted(lambda: int(scene.call("stats")["events"]))


def connections(scene: Scene) -> int:
    """TCP connections, each of which must be seen opening and closing."""
    port = scene.service.serve(sys.executable, str(SERVER), "127.0.0.1")
    for _ in range(EVENTS):
        socket.create_connection(("127.0.0.1", port)).close()
    names = ("tcp.connections.opened", "tcp.connections.closed")
    seen: list[int] = []

    def closed() -> int:  # they end a little after close() returns
        seen[:] = [sum(p.as_int for p in scene.receiver.points(name)) for name in names]
        return min(seen)

    scene.counted(closed)
    return min(seen) if max(seen) <= EVENTS else max(seen)


def samples(scene: Scene) -> int:
    """Samples of a process that burns; all that the kernel took must be told as its own."""
    scene.service.start(sys.executable, "-S", "-c", _BURN)

    def sampled() -> int:
        return int(scene.call("stats")["events"])

    patience.until(lambda: sampled() >= EVENTS, sampled)
    scene.call("off")
    scene.flush()
    taken = sampled()
    name = os.path.basename(os.path.realpath(sys.executable))

    def own() -> int:  # names are looked up a little later
        return sum(
            point.as_int
            for point in scene.receiver.points("profile.samples")
            if scene.receiver.attributes(point).get("process.executable.name") == name
        )

    found = scene.counted(own, taken)
    return min(EVENTS, found) if found == taken else found


def executions(scene: Scene) -> int:
    """Executions of /bin/true."""
    scene.python(_SPAWN, str(EVENTS))
    return scene.told("process.exec", **{"process.executable.path": os.path.realpath("/bin/true")})


def killed(scene: Scene) -> int:
    """Shells that are killed before they do anything; those outside go on."""
    ended = [scene.run("/bin/sh", "-c", "exit 7") for _ in range(EVENTS)]
    assert processes.run(["/bin/sh", "-c", "exit 7"], check=False, timeout=_SECONDS).returncode == 7
    told = scene.told("process.exec", **{"guard.action": "kill"})
    return min(ended.count(-9), told)


def scripts(scene: Scene) -> int:
    """Scripts that are killed for their own path, before they do anything."""
    script = scene.folder / "script"
    script.write_text("#!/bin/sh\nexit 7\n")
    script.chmod(0o755)
    ended = [scene.run(str(script)) for _ in range(EVENTS)]
    told = scene.told("process.exec", **{"process.script.path": str(script)})
    return min(ended.count(-9), told)


def from_memory(scene: Scene) -> int:
    """Programs that no folder has, which are killed."""
    scene.python(_FROM_MEMORY, str(EVENTS))
    return scene.told("process.exec", **{"process.executable.path": "/memfd:evil"})


def datagrams(scene: Scene) -> int:
    """Datagrams of a socket that is not connected."""
    scene.python(_SEND, str(EVENTS))
    return scene.peers()


def replaced(scene: Scene) -> int:
    """Openings of a file that was just renamed over the one before it."""
    secret = scene.folder / "secret"
    for number in range(EVENTS):
        (scene.folder / "next").write_text(f"{number}\n")
        (scene.folder / "next").replace(secret)
        for _ in range(_TRIES):  # it is heard of a little later
            if scene.run("/bin/cat", str(secret)) == -9:
                break
        else:
            return number
    return EVENTS


def connects(scene: Scene) -> int:
    """Connections that the service makes."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        scene.python(_CONNECT, str(listening.getsockname()[1]), str(EVENTS))
    return scene.peers()


def opens(scene: Scene) -> int:
    """Openings of one file, by processes that end at once."""
    scene.python(_OPEN, str(scene.folder / "secret"), str(EVENTS))
    return scene.told("file.open")


def denied(scene: Scene) -> int:
    """Processes that are killed for opening a file, and read nothing of it; others read it."""
    secret = str(scene.folder / "secret")
    killed = passed = 0
    while killed < EVENTS and passed < EVENTS:
        before = _restarts(scene)
        code = scene.run("/bin/cat", secret)
        if code == -9:
            killed += 1
        elif code == 0 and _is_replaced(scene, before):
            passed += 1  # nobody was there to deny it, as a machine that is so busy may have it
        else:
            break
    read = processes.run(["/bin/cat", secret], timeout=_SECONDS).stdout
    assert read == "secret\n"
    assert scene.log().count("secret") == passed
    return min(killed, scene.told("file.open", **{"guard.action": "kill"}))


def _is_replaced(scene: Scene, before: int) -> bool:
    """Whether who denies files has ended since then."""
    return patience.until(lambda: _restarts(scene) != before, lambda: before)


def _restarts(scene: Scene) -> int:
    """How often who denies files was replaced by now; a flush replaces who has ended."""
    scene.flush()
    return int(scene.call("stats").get("answerer_restarts", 0))


def opens_of_overlay(scene: Scene) -> int:
    """Openings of a file in a file system of layers, as containers have it."""
    with overlay(scene.folder) as merged:
        scene.call("off")
        scene.call("on")
        scene.python(_OPEN, str(merged / "watched"), str(EVENTS))
        return scene.told("file.open")


def burns(scene: Scene) -> int:
    """Responses before which it burnt; a few are sent again and counted again."""
    _requests(scene, "/status/204")
    return _at_least(int(scene.call("stats")["injected_events"]))


def burns_aside(scene: Scene) -> int:
    """Calls of getsockopt; the interpreter may make some of its own."""
    scene.python(_OPTIONS)
    return _at_least(int(scene.call("stats")["injected_events"]))


def _at_least(count: int) -> int:
    return EVENTS if EVENTS <= count <= _EXTRA * EVENTS + 1 else count


def runs(scene: Scene) -> int:
    """Runs of each of its empty programs, for as many connections, at most as many."""
    own = {program["id"] for program in scene.ready["programs"]}
    with bpfstats.StatsEnabled():
        port = scene.service.serve(sys.executable, str(SERVER), "127.0.0.1")
        for _ in range(EVENTS):
            socket.create_connection(("127.0.0.1", port)).close()
        counts = [each.run_cnt for each in bpfstats.programs() if each.id in own]
    return min(EVENTS, *counts)


_SECRET = ("open", "{folder}/secret", "report")
_DENIED = ("open", "{folder}/secret", "kill")
_LAYERED = ("open", "{folder}/merged/watched", "report")
_HOOKS = ("best", "lsm", "fentry", "fanotify")
CASES = (
    Case("http", "requests", requests),
    Case("flows", "connections", connections),
    Case("profile", "samples", samples, ("--frequency=99",)),
    Case("profile", "samples by tables", samples, ("--frequency=99", "--unwind=eh_frame")),
    Case("guard", "executions", executions, (), ("exec", "*", "report")),
    Case("guard", "executions killed", killed, (), ("exec", "/bin/sh", "kill")),
    Case("guard", "scripts killed", scripts, (), ("exec", "{folder}/*", "kill")),
    Case("guard", "programs from memory", from_memory, (), ("exec", "/memfd:*", "kill")),
    Case("guard", "connections made", connects, (), ("connect", "0.0.0.0/0", "report")),
    Case("guard", "datagrams sent", datagrams, (), ("connect", "127.0.0.0/8", "report")),
    *(Case("guard", f"files opened, {h}", opens, (f"--open-hook={h}",), _SECRET) for h in _HOOKS),
    *(
        Case("guard", f"files denied, {h}", denied, (f"--open-hook={h}",), _DENIED)
        for h in _HOOKS[1:]
    ),
    *(
        Case("guard", f"files replaced, {h}", replaced, (f"--open-hook={h}",), _DENIED)
        for h in _HOOKS[1:]
    ),
    *(
        Case(
            "guard", f"files of an overlay, {h}", opens_of_overlay, (f"--open-hook={h}",), _LAYERED
        )
        for h in _HOOKS[1:]
    ),
    Case("inject", "responses", burns, ("--ns=1000",)),
    Case("inject", "system calls", burns_aside, ("--ns=1000", "--at=getsockopt")),
    Case("sham", "connections", runs),
)
