"""Two machines within this one: a node that measures and one that the load comes from.

Each is in a network namespace of its own, joined by a veth pair; that of the load has its own /run,
which outlives its nodes, and a time namespace in which CLOCK_MONOTONIC is hours ahead.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.controller import resolved
from harness.controller.beginning import beginning
from harness.controller.evaluate import Outcome, evaluate
from harness.controller.remote_load import LoadTarget
from harness.linux import processes
from harness.model import Arm, Load
from harness.plan import workloads
from harness.plan.experiment import Experiment
from harness.targets.channel import ProcessChannel
from harness.targets.local import Local

ADDRESS, LOAD_ADDRESS = "10.213.7.1", "10.213.7.2"
PORT = 8080
AHEAD_SECONDS = 7200
GUARD_SECONDS = 0.02  # on a busy machine, too, a clock is told to a tenth of it
RUN = "apart"

SERVER = """
import http.server, sys, time

times = open(sys.argv[2], "a", buffering=1)

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

    def do_GET(self):
        print(time.monotonic_ns(), file=times)
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\\n")

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[3])), Handler).serve_forever()
"""

# what the child of unshare does in the namespaces that were made for it
_ENTER = 'mount --bind "$1" /run && shift && exec "$@"'


class Machine(Local):
    """A node in namespaces of its own, as a target."""

    def __init__(self, name: str, prefix: tuple[str, ...], log: Path) -> None:
        self.name, self._prefix, self._log = name, prefix, log

    def connect(self) -> ProcessChannel:  # type: ignore[override]
        """A node process there."""
        return ProcessChannel([*self._prefix, sys.executable, "-m", "harness.node"], self._log)

    @contextmanager
    def out_of_the_way(self, cpus: Sequence[int]) -> Iterator[None]:
        """This process may be anywhere."""
        yield


@dataclass(frozen=True)
class Pair:
    """The two machines, and a folder for their files."""

    folder: Path
    measured: Machine
    load: Machine
    spaces: tuple[str, str]

    @property
    def run(self) -> Path:
        """Where the load's machine has its journal."""
        return self.folder / "run"

    def processes(self, space: str) -> list[int]:
        """Who is in the network namespace of one of them."""
        inode = os.stat(f"/run/netns/{space}").st_ino
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
                if _space(pid) == inode]  # fmt: skip

    def running(self, module: str, *, load: bool) -> list[int]:
        """The processes of one of them that run a module of ours."""
        return [pid for pid in self.processes(self.spaces[load]) if _runs(pid, module)]


def _space(pid: int) -> int:
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    return 0


def _runs(pid: int, module: str) -> bool:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return words[:1] == [sys.executable.encode()] and module.encode() in words
    return False


@contextlib.contextmanager
def pair(folder: Path) -> Iterator[Pair]:
    """Make both; whatever was started there must have ended."""
    spaces = (f"harness-s{os.getpid()}", f"harness-l{os.getpid()}")
    made: list[str] = []
    try:
        for space in spaces:
            _ip("netns", "add", space)
            made.append(space)
        _ip("link", "add", "veth0", "netns", spaces[0], "type", "veth", "peer", "name", "veth0",
            "netns", spaces[1])  # fmt: skip
        for space, address in zip(spaces, (ADDRESS, LOAD_ADDRESS), strict=True):
            _ip("-n", space, "address", "add", f"{address}/24", "dev", "veth0")
            for link in ("lo", "veth0"):
                _ip("-n", space, "link", "set", link, "up")
        yield machines(folder, spaces)
    finally:
        for space in made:
            _ip("netns", "delete", space)


def machines(folder: Path, spaces: tuple[str, str]) -> Pair:
    """The two as targets, once their namespaces are there."""
    (folder / "run").mkdir(exist_ok=True)
    (folder / "server.py").write_text(SERVER)
    here, there = (("nsenter", f"--net=/run/netns/{space}") for space in spaces)
    apart = (
        "unshare", "--mount", "--time", "--monotonic", str(AHEAD_SECONDS), "--fork",
        "--kill-child", "sh", "-c", _ENTER, "sh", str(folder / "run"),
    )  # fmt: skip
    return Pair(
        folder,
        Machine("ssh:measured", here, folder / "measured.log"),
        Machine("ssh:load", (*there, *apart), folder / "load.log"),
        spaces,
    )


def _ip(*words: str) -> None:
    processes.run(["ip", *words])


def served(pair: Pair, run: Path) -> Path:
    """Where the service writes when it was asked, by the clock of the machine that it is on."""
    return pair.folder / f"{run.name}.times"


def evaluated(
    pair: Pair,
    run: Path,
    *,
    listens: str = ADDRESS,
    blocks: int = 1,
    guard: float = GUARD_SECONDS,
    load_url: str = "",
) -> Outcome:
    """A small evaluation of a service on the one machine with load from the other, one connection.

    So each request is served before the next one is sent.
    """
    words = (listens, str(served(pair, run)), str(PORT))
    own = workloads.own(
        " ".join([sys.executable, str(pair.folder / "server.py"), *words]),
        f"http://{listens}:{PORT}/",
    )
    chosen = Experiment(
        own.name, (own.name,), (Arm("baseline"), Arm("http", ("http",))), blocks=blocks,
        replacements=0, warmup_seconds=0.5, warmup_limit_seconds=1.0, switched_seconds=4.0,
        steady_seconds=1.0, metered_seconds=1.0, calibration_seconds=1.0, guard_seconds=guard,
        seed=5, loads={own.name: Load(rate=200, connections=1)},
    )  # fmt: skip
    found = resolved.check(chosen, own)
    begin = beginning(run, chosen, found, command=[], target=pair.measured.name)
    load = LoadTarget(pair.load, load_url)
    return evaluate(pair.measured, RUN, chosen, found, begin, run_dir=run, load=load)
