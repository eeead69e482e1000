"""A docker daemon of the tests' own, in a network of its own; `images` and tests start it.

What it makes there (bridges, rules, addresses) is gone with the namespace, so commands that reach
into a cluster run in there: `inside`. Its images stay in the cache, everything else goes when it
stops. To build images it runs without a network of its own: RUN then has the machine's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.linux import processes
from tests.cluster import programs

GROUP = "harness-test-cluster"
RUNTIME = Path(__file__).with_name("images") / "runtime"
_POD_GROUPS = ("kubelet", "kubelet.slice")  # kind's nodes may leave them in a root
_READY_SECONDS, _STOP_SECONDS = 60, 90


@dataclass(frozen=True)
class Engine:
    """A daemon that runs; `environment` is for docker and for what calls docker."""

    pid: int
    socket: Path

    @property
    def environment(self) -> dict[str, str]:
        """DOCKER_HOST, and the programs on PATH."""
        place = f"{programs.path()}:/usr/sbin:{os.environ['PATH']}"
        return {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "0", "PATH": place}

    def inside(self, argv: Sequence[str]) -> list[str]:
        """A command in the daemon's network."""
        return ["nsenter", "--net", "--target", str(self.pid), *argv]

    def docker(self, *words: str, check: bool = True, seconds: float = 1800) -> str:
        """What a docker command prints."""
        done = processes.run(["docker", *words], env=self.environment, check=check, timeout=seconds)
        return done.stdout


@contextlib.contextmanager
def running(folder: Path, *, building: bool = False) -> Iterator[Engine]:
    """A daemon whose files are in `folder`, its images in the cache; ended and cleaned up after."""
    data = programs.cache() / "engine"
    data.mkdir(parents=True, exist_ok=True)
    with (programs.cache() / "engine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two daemons of one folder would harm each other
        with _running(folder, data, building) as engine:
            yield engine


@contextlib.contextmanager
def _running(folder: Path, data: Path, building: bool) -> Iterator[Engine]:
    flags = [
        f"--host=unix://{folder}/docker.sock", f"--data-root={data}", f"--exec-root={folder}/exec",
        f"--pidfile={folder}/docker.pid", "--storage-driver=overlay2",
        f"--add-runtime=own={RUNTIME}", "--default-runtime=own", f"--cgroup-parent=/{GROUP}",
    ]  # fmt: skip
    alone = [] if building else ["unshare", "--net"]
    flags += (
        ["--bridge=none", "--iptables=false", "--ip-forward=false"]
        if building
        else ["--bip=172.28.0.1/16", "--default-address-pool=base=172.29.0.0/16,size=24"]
    )
    script = 'ip link set lo up; exec "$@"'
    log = folder / "dockerd.log"
    process = processes.spawn([*alone, "sh", "-c", script, "sh", "dockerd", *flags], log=log)
    engine = Engine(process.pid, folder / "docker.sock")
    try:
        _await(engine, log)
        yield engine
    finally:
        with contextlib.suppress(Exception):
            if left := engine.docker("ps", "--all", "--quiet").split():
                engine.docker("rm", "--force", "--volumes", *left)
            # a network that stays is made again by the next daemon, in whichever namespace that is
            engine.docker("network", "prune", "--force")
        processes.stop(process, grace_seconds=_STOP_SECONDS)
        _remove_mounts(folder)
        _remove_groups()


def _await(engine: Engine, log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            engine.docker("version")
            return
        except Exception as error:
            if time.monotonic() > deadline:
                words = " ".join(processes.last_words(log))
                raise AssertionError(f"dockerd does not answer: {words}") from error
        time.sleep(0.2)


def _remove_mounts(folder: Path) -> None:
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        where = line.split()[1]
        if where.startswith((str(folder), str(programs.cache() / "engine"))):
            processes.run(["umount", where], check=False)
    shutil.rmtree(folder / "exec", ignore_errors=True)


def _remove_groups() -> None:
    """What containers leave: empty cgroups, in each of the hierarchies."""
    for root in hierarchies():
        for name in (GROUP, *_POD_GROUPS):
            for path in sorted((root / name).rglob("*"), reverse=True):
                if path.is_dir():
                    with contextlib.suppress(OSError):
                        path.rmdir()
            with contextlib.suppress(OSError):
                (root / name).rmdir()


def hierarchies() -> list[Path]:
    """Where cgroups are mounted."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return [Path(mount[1]) for mount in mounts if mount[2] in ("cgroup", "cgroup2")]
