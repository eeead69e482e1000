"""Whether the requests for a URL reach the cgroup that is measured; asked once it answers.

`docker run`, `kubectl port-forward`, `su -l` or `systemd-run` stay in the cgroup in which they were
started, while the work is done elsewhere: without this check the service would cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from harness.errors import InputError
from harness.linux import cgroup, containers, listeners, units
from harness.linux.listeners import Address, Listening
from harness.linux.procfs import HOST, V2, Procfs

FORWARDERS = {
    "docker-proxy", "dockerd", "rootlessport", "rootlesskit", "slirp4netns", "pasta", "pasta.avx2",
    "conmon", "kubectl", "ssh",
}  # fmt: skip
"""Programs that, where they listen on TCP, only hand on to somebody else what comes."""


@dataclass(frozen=True)
class Owner:
    """Who answers: a process, what it forwards to if it only does that, where that listens."""

    pid: int
    forwards: bool = False
    behind: int = 0
    direct: str = ""


def check_scope(url: str, path: Path, procfs: Procfs = HOST) -> str:
    """Empty if a process of the cgroup `path` listens at the URL, else why that cannot be told.

    InputError, naming who does and which option measures it, if it is somebody else: the next
    block would find the same.
    """
    inside = set(cgroup.processes(path))
    if not inside and cgroup.populated(path):
        return _unknown(url, "the processes of its cgroup cannot be seen from this PID namespace")
    door = doors(url, inside, procfs)
    if not any(door.values()):
        return _unseen(url, path, inside, procfs)
    ours = [socket for socket, pids in door.items() if pids & inside]
    others = outside(door, inside)
    if not ours:
        return _elsewhere(url, path, inside, owners(others, procfs), procfs)
    if others:
        raise _shared(url, owners(others, procfs), procfs)
    if hands_on := [each for each in owners(set.union(*door.values()), procfs) if each.forwards]:
        raise _forwarding(url, hands_on, procfs)
    return ""


def doors(url: str, inside: set[int], procfs: Procfs = HOST) -> dict[Listening, set[int]]:
    """The sockets that take the connections of a URL, with the pids that hold them."""
    if (place := _place(url)) is None:
        return {}
    for address in listeners.resolved(place[0]):
        for pid in _views(address, inside, procfs):
            if found := listeners.chosen(listeners.listening(pid, procfs), address, place[1]):
                return listeners.holders(found, procfs)
    return {}


def outside(door: dict[Listening, set[int]], inside: set[int]) -> set[int]:
    """Who holds those of the sockets that nobody of the cgroup holds."""
    return {pid for pids in door.values() if not pids & inside for pid in pids}


def owners(pids: set[int], procfs: Procfs = HOST) -> list[Owner]:
    """The first processes of these, and what is behind those that only forward."""
    first = sorted(pid for pid in pids if procfs.parent(pid) not in pids)
    return [_owner(pid, procfs) for pid in first]


def option(owner: Owner, procfs: Procfs = HOST) -> str:
    """The option that measures it: by its container, else its unit, else its pid."""
    pid = owner.behind or owner.pid
    if owner.forwards and not owner.behind:
        return ""
    if container := containers.id_of(pid, procfs):
        return f"--container {containers.shortened(container)}"
    unit = unit_of(pid, procfs)
    return f"--unit {unit}" if unit else f"--pid {pid}"


def unit_of(pid: int, procfs: Procfs = HOST) -> str:
    """The systemd unit of a process by its cgroup, on hosts of either version; empty if none."""
    groups = procfs.cgroups(pid)
    return units.of(groups.get(V2, "")) or units.of(groups.get("name=systemd", ""))


def _place(url: str) -> tuple[str, int] | None:
    """Host and port; None for what is no address of TCP."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _views(address: Address, inside: set[int], procfs: Procfs) -> Iterator[int | str]:
    """A process of each network namespace that an address may be in: ours, the service's, others'.

    An address of several other namespaces tells nothing; those that are on loopback are ours only.
    """
    if listeners.is_local(address, "self", procfs):
        yield "self"
    elif not address.is_loopback:
        spaces = listeners.namespaces(procfs)
        theirs = {procfs.namespace(pid, "net") for pid in inside} & spaces.keys()
        having = {s for s, pid in spaces.items() if listeners.is_local(address, pid, procfs)}
        yield from (spaces[space] for space in theirs & having)
        if len(having) == 1:
            yield from (spaces[space] for space in having - theirs)


def _having(address: Address, procfs: Procfs) -> set[int]:
    """The processes of the one network namespace besides ours that has an address."""
    own = procfs.namespace("self", "net")
    spaces = {
        space
        for space, pid in listeners.namespaces(procfs).items()
        if space != own and listeners.is_local(address, pid, procfs)
    }
    if len(spaces) != 1:
        return set()
    return {pid for pid in procfs.pids() if procfs.namespace(pid, "net") in spaces}


def _owner(pid: int, procfs: Procfs) -> Owner:
    name, argv = procfs.name(pid), procfs.argv(pid)
    if name not in FORWARDERS:
        return Owner(pid)
    if name == "docker-proxy":
        ip, port = _after(argv, "-container-ip"), _after(argv, "-container-port")
        if ip and port:
            url = f"http://{listeners.written(ip_address(ip), int(port))}/"
            behind = set().union(*doors(url, set(), procfs).values())
            behind = behind or _having(ip_address(ip), procfs)  # it does not listen yet
            first = owners(behind, procfs)
            return Owner(pid, True, first[0].pid if first else 0, url)
    if name == "conmon" and (container := _after(argv, "-c")):
        inside = {p for p in procfs.pids() if containers.id_of(p, procfs) == container}
        return Owner(pid, True, min(inside - {pid}, default=0))
    return Owner(pid, True)


def _after(argv: list[str], flag: str) -> str:
    at = argv.index(flag) + 1 if flag in argv else len(argv)
    return argv[at] if at < len(argv) else ""


def _elsewhere(url: str, path: Path, inside: set[int], who: list[Owner], procfs: Procfs) -> str:
    """Nobody of the cgroup listens: well if what listens hands on to it, else InputError."""
    own = listeners.held(inside, procfs)
    if who and all(each.behind in inside for each in who):
        return (
            f"The requests pass {_names(who, procfs)}. What passes them on is in no figure of CPU, "
            f"and in every latency.{_directly(own, who)}"
        )
    if own and who and all(each.forwards and not each.behind for each in who):
        return _unknown(url, f"{_names(who, procfs)} hands on what comes") + _directly(own)
    raise InputError(
        f"{url} is answered outside of the cgroup that is measured, by {_names(who, procfs)}.",
        f"That is {path}, {_holds(inside, procfs)}; what the service costs would be missed.",
        _advice(who, procfs),
    )


def _shared(url: str, who: list[Owner], procfs: Procfs) -> InputError:
    return InputError(
        f"{url} is answered by the service and by {_names(who, procfs)}, in turns.",
        "Both listen on the port (SO_REUSEPORT), and only the service is in the measured cgroup.",
        "Stop one of them, or let them listen on different ports.",
    )


def _forwarding(url: str, who: list[Owner], procfs: Procfs) -> InputError:
    return InputError(
        f"What listens at {url} only hands on what comes: {_names(who, procfs)}.",
        "The service itself runs elsewhere, and only the forwarding would be measured.",
        _advice(who, procfs),
    )


def _unseen(url: str, path: Path, inside: set[int], procfs: Procfs) -> str:
    """Nobody is seen to listen: why; InputError if the cgroup listens nowhere at all."""
    place, own = _place(url), listeners.held(inside, procfs)
    if place is None:
        return _unknown(url, "it is no address of TCP")
    if not own:
        raise InputError(
            f"{url} answers, but nobody in the cgroup that is measured listens on TCP.",
            f"That is {path}, {_holds(inside, procfs)}; what the service costs would be missed.",
            "Let the service run by itself, and name it by --container, --unit, --pid or --cgroup.",
        )
    addresses = listeners.resolved(place[0])
    if any(listeners.is_local(each, "self", procfs) for each in addresses):
        why = "nobody who can be seen listens there, so that the packets are redirected (DNAT)"
    else:
        why = f"{place[0]} is an address of another host, or of a service in a cluster"
    return _unknown(url, why) + _directly(own)


def _unknown(url: str, why: str) -> str:
    return f"Whether the requests for {url} reach the measured cgroup cannot be checked: {why}."


def _directly(own: Iterable[Listening], who: Iterable[Owner] = ()) -> str:
    """Where the service itself is."""
    if direct := sorted({each.direct for each in who if each.direct}):
        return f" --url {direct[0]} leads to the service itself."
    there = " and ".join(sorted(map(str, own))[:3])
    return f" The service itself listens on {there}: a --url of that leads to it directly."


def _holds(inside: set[int], procfs: Procfs, most: int = 3) -> str:
    told = [f"process {pid} ({procfs.name(pid)})" for pid in sorted(inside)[:most]]
    more = [f"{len(inside) - most} more"] if len(inside) > most else []
    return f"which holds {', '.join([*told, *more]) or 'no process'}"


def _names(who: list[Owner], procfs: Procfs, most: int = 3) -> str:
    told = [_name(each, procfs) for each in who[:most]]
    more = [f"{len(who) - most} more"] if len(who) > most else []
    return ", ".join([*told, *more])


def _name(owner: Owner, procfs: Procfs) -> str:
    told = f"process {owner.pid} ({procfs.name(owner.pid)}) of the "
    if container := containers.id_of(owner.pid, procfs):
        told += f"container {containers.shortened(container)}"
    else:
        told += f"cgroup {procfs.cgroups(owner.pid).get(V2, '?')}"
    if owner.behind:
        told += f", which forwards to {_name(Owner(owner.behind), procfs)}"
    return told


def _advice(who: list[Owner], procfs: Procfs) -> str:
    options = sorted({option(each, procfs) for each in who} - {""})
    direct = sorted({each.direct for each in who if each.direct})
    if not options:
        return (
            "Let the service run by itself, and measure it on the machine where it runs: by "
            "--container, --unit or --pid, with its own address in --url."
        )
    to = f" --url {direct[0]}" if direct else ""
    return f"Let the service run by itself, and measure it where it runs: {options[0]}{to}."
