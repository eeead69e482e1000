"""A container's processes by its id or name, whatever engine runs it; for services found running.

First what OCI runtimes keep below /run, then the engines' own programs, then the ids that stand in
/proc in the names of cgroups and in the sources of mounts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CommandError, InputError, NeedError
from harness.linux import processes
from harness.linux.procfs import HOST, V2, Procfs

RUN = Path("/run")
SHORT = 12  # characters of an id, as engines print it

_HEX = r"[0-9a-f]{64}|[0-9a-f]{32}-[0-9]{10}"  # the second is that of ECS
_PART = r"(?:^|[-/:])(?<!conmon-)({})(?:\.scope)?(?=/|$)"  # conmon watches a container from outside
_ID = re.compile(_PART.format(_HEX))
_MOUNTED = re.compile(r"/(?:overlay-)?containers/([0-9a-f]{64})/\S* /etc/(?:hostname|hosts|resolv)")
_STATES = {  # where runc (state.json) and crun (status) keep what they run
    "runc": "runc/*/state.json",
    "containerd": "containerd/runc/*/*/state.json",
    "docker": "docker/runtime-*/*/*/state.json",
    "crun": "crun/*/status",
}
_GO = "{{.Id}} {{.State.Pid}}"
_SPACES = ("default", "k8s.io", "moby")
_ASKED: dict[str, list[list[str]]] = {  # each prints the id and the pid; {} is what is looked for
    "docker": [["docker", "container", "inspect", "--format", _GO, "{}"]],
    "podman": [["podman", "container", "inspect", "--format", _GO, "{}"]],
    "nerdctl": [["nerdctl", "-n", space, "inspect", "--format", _GO, "{}"] for space in _SPACES],
    "crictl": [
        ["crictl", "inspect", "--output", "go-template", "--template",
         "{{.status.id}} {{.info.pid}}", "{}"]
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Container:
    """A container that runs: its full id, its first process as this PID namespace sees it."""

    id: str
    pid: int
    engine: str = ""

    @property
    def short(self) -> str:
        """Its id as engines print it."""
        return shortened(self.id)


def shortened(container_id: str) -> str:
    """An id as engines print it; one that somebody chose stays."""
    return container_id[:SHORT] if re.fullmatch(_HEX, container_id) else container_id


def find(given: str, procfs: Procfs = HOST, run: Path = RUN) -> Container:
    """The container with this id, beginning of an id, or name; also as Kubernetes has it (x://ID).

    InputError, telling who was asked, if there is none or more than one.
    """
    given = given.rpartition("://")[2]
    if kept := [each for each in _kept(procfs, run) if _is_meant(each.id, given)]:
        return _only(given, kept)
    said: list[str] = []
    for engine in _ASKED:
        found, answer = ask(engine, given)
        if found is not None:
            if id_of(found.pid, procfs, run) == found.id:
                return found
            answer = f"it runs {shortened(found.id)}, but not here"  # DOCKER_HOST, or a VM
        said.append(f"{engine}: {answer}")
    if seen := _seen(given, procfs):
        return _only(given, seen)
    raise InputError(
        f"There is no running container {given!r}.",
        f"No runtime keeps it below {run}, and no cgroup has its id; {'; '.join(said)}.",
        "Give the id as its engine lists it (docker ps, crictl ps), or name the service by --pid.",
    )


def ask(engine: str, given: str) -> tuple[Container | None, str]:
    """What an engine's program knows of a container, and why it is None."""
    answer = "it runs no such container"
    for question in _ASKED[engine]:
        try:
            argv = [given if word == "{}" else word for word in question]
            done = processes.run(argv, check=False, timeout=20)
        except (NeedError, CommandError) as error:
            return None, error.what.rstrip(".")
        words = done.stdout.split()
        if done.returncode == 0 and len(words) == 2 and words[1].isdecimal() and int(words[1]):
            return Container(words[0], int(words[1]), engine), ""
        answer = (done.stderr.strip().splitlines() or [answer])[-1].rstrip(".")
    return None, answer


def id_of(pid: int, procfs: Procfs = HOST, run: Path = RUN) -> str:
    """The full id of the container that a process runs in; empty if it is in none.

    By the innermost cgroup that bears an id, then by files that engines mount for each container,
    then, for ids that somebody chose, by the PID namespace of those that runtimes keep.
    """
    for path in sorted(procfs.cgroups(pid).values(), key=len, reverse=True):
        if named := _ID.findall(path):
            return str(named[-1])
    if mounted := _MOUNTED.findall(procfs.text(pid, "mountinfo")):
        return str(mounted[-1])
    if space := _apart(pid, procfs):
        for each in _kept(procfs, run):
            if procfs.namespace(each.pid, "pid") == space:
                return each.id
    return ""


def place(container: Container, controllers: str = V2, procfs: Procfs = HOST) -> str:
    """The cgroup of a hierarchy that bears the container's id; empty if none does."""
    path = procfs.cgroups(container.pid).get(controllers, "")
    found = re.search(_PART.format(re.escape(container.id)), path)
    return path[: found.end()] if found else ""


def members(container: Container, procfs: Procfs = HOST) -> set[int]:
    """All processes of a container: by the v1 cgroup that bears its id, else by its PID namespace.

    Those that descend from its first process belong to it in any case.
    """
    found = procfs.family(container.pid)
    for controllers in procfs.cgroups(container.pid).keys() - {V2}:
        if path := place(container, controllers, procfs):
            return found | within(controllers, path, procfs)
    if space := _apart(container.pid, procfs):
        found |= {pid for pid in procfs.pids() if procfs.namespace(pid, "pid") == space}
    return found


def within(controllers: str, path: str, procfs: Procfs = HOST) -> set[int]:
    """The processes in this cgroup of a hierarchy, or below it."""
    top = f"{path.rstrip('/')}/"
    return {
        pid
        for pid in procfs.pids()
        if f"{procfs.cgroups(pid).get(controllers, '')}/".startswith(top)
    }


def stop(container: Container) -> bool:
    """Have its engine end it; False if no engine's program does."""
    for engine in ("docker", "podman", "nerdctl", "crictl"):
        if ask(engine, container.id)[0] is not None:
            try:
                processes.run([engine, "stop", container.id], timeout=60)
            except (NeedError, CommandError):
                return False
            return True
    return False


def _apart(pid: int, procfs: Procfs) -> int:
    """Its PID namespace if it is another than ours, else 0."""
    space = procfs.namespace(pid, "pid")
    return 0 if space == procfs.namespace("self", "pid") else space


def _is_meant(container_id: str, given: str) -> bool:
    """Of the long ids, which engines make, the beginning will do."""
    return container_id == given or bool(
        given and re.fullmatch(_HEX, container_id) and container_id.startswith(given)
    )


def _only(given: str, found: list[Container]) -> Container:
    if len(found) > 1:
        raise InputError(
            f"{len(found)} running containers have an id that begins with {given!r}.",
            f"They are {', '.join(sorted(each.id for each in found))}.",
            "Give more of the id.",
        )
    return found[0]


def _kept(procfs: Procfs, run: Path) -> Iterator[Container]:
    """Those whose runtime's state is below /run and whose first process lives."""
    for engine, pattern in _STATES.items():
        for path in sorted(run.glob(pattern)):
            try:
                state = json.loads(path.read_text())
                pid = int(state.get("init_process_pid") or state.get("pid") or 0)
                begun = int(state.get("init_process_start") or state.get("process-start-time") or 0)
            except (OSError, ValueError, AttributeError):
                continue  # it goes at this moment, or is another program's
            started = procfs.started(pid) if pid else None
            if started is not None and begun in (0, started):
                yield Container(str(state.get("id") or path.parent.name), pid, engine)


def _seen(given: str, procfs: Procfs) -> list[Container]:
    """Those that /proc shows; the first process is the oldest whose parent is outside."""
    inside: dict[str, set[int]] = {}
    for pid in procfs.pids():
        for path in procfs.cgroups(pid).values():
            for found in _ID.findall(path):
                if _is_meant(found, given):
                    inside.setdefault(found, set()).add(pid)
    return [
        Container(found, min(_roots(pids, procfs), key=lambda pid: procfs.started(pid) or 0))
        for found, pids in inside.items()
    ]


def _roots(pids: set[int], procfs: Procfs) -> set[int]:
    return {pid for pid in pids if procfs.parent(pid) not in pids} or pids
