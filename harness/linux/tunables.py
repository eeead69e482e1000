"""What disturbs a measurement and can be set: files, units of systemd, swap; `tuning` sets them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.linux import processes, units
from harness.wire.placement import names, parse_cpus
from harness.wire.spec import Placement

ROOT = Path("/")
_CPUS = "sys/devices/system/cpu"
BACKGROUND = (
    "anacron", "apt-daily", "apt-daily-upgrade", "dnf-makecache", "dpkg-db-backup", "e2scrub_all",
    "fstrim", "fwupd-refresh", "logrotate", "man-db", "mlocate-updatedb", "plocate-updatedb",
    "sysstat-collect", "systemd-tmpfiles-clean", "unattended-upgrades", "updatedb",
)  # fmt: skip
"""Timers whose work can wait until a measurement is over."""


@dataclass(frozen=True)
class Wish:
    """One thing that is to be set otherwise: a file, a unit of systemd or an area of swap.

    `knob` is its name in linux.knobs; `before` and `wanted` are what reading it gives.
    """

    knob: str
    kind: str
    what: str
    before: str
    wanted: str


@dataclass(frozen=True)
class Kind:
    """How a thing is read and set; OSError or HarnessError where it is not to be.

    `halfway` tells a value in which who gives it back may have been killed.
    """

    read: Callable[[str], str]
    write: Callable[[str, str], None]
    halfway: Callable[[str], bool] = lambda now: False


def wishes(place: Placement, root: Path = ROOT) -> list[Wish]:
    """All that is not as a measurement wants it, and can be set, in the order of setting it."""
    files = [
        Wish(knob, kind, str(path), before, wanted)
        for knob, found in _FILES.items()
        for kind in ["SMT" if found is _siblings else "file"]
        for path, wanted in found(root, place)
        if (before := _found(kind, path)) and before != wanted
    ]
    return [*(_running() if root == ROOT else ()), *_swaps(root), *files]


def _governors(root: Path, place: Placement) -> Iterator[tuple[Path, str]]:
    for path in sorted((root / _CPUS).glob("cpu[0-9]*/cpufreq/scaling_governor")):
        if "performance" in _text(path.with_name("scaling_available_governors")).split():
            yield path, "performance"


def _boost(root: Path, place: Placement) -> Iterator[tuple[Path, str]]:
    yield root / _CPUS / "intel_pstate/no_turbo", "1"
    yield root / _CPUS / "cpufreq/boost", "0"


def _siblings(root: Path, place: Placement) -> Iterator[tuple[Path, str]]:
    """Off, if one is beside the service: cores of which only idle threads are left disturb none."""
    control, busy = root / _CPUS / "smt/control", set(place.workload) | set(place.idle)
    for cpu in place.workload:
        own = parse_cpus(_text(root / _CPUS / f"cpu{cpu}/topology/thread_siblings_list"))
        if set(own) - busy and _text(control) == "on":
            yield control, "off"
            return


def _interrupts(root: Path, place: Placement) -> Iterator[tuple[Path, str]]:
    """Those that go to the service's CPUs, to the others that they may go to."""
    online = set(parse_cpus(_text(root / _CPUS / "online")))
    others = sorted(online - set(place.workload))
    for path in sorted((root / "proc/irq").glob("[0-9]*/smp_affinity_list")):
        goes = parse_cpus(_text(path.with_name("effective_affinity_list")))
        if others and set(goes) & set(place.workload):
            yield path, names(others).split()[-1]


def _one(path: str, wanted: str) -> Callable[[Path, Placement], Iterator[tuple[Path, str]]]:
    def found(root: Path, place: Placement) -> Iterator[tuple[Path, str]]:
        yield root / path, wanted

    return found


def _huge_pages(root: Path, place: Placement) -> Iterator[tuple[Path, str]]:
    path = root / "sys/kernel/mm/transparent_hugepage/enabled"
    if _chosen(_text(path)) == "always":
        yield path, "madvise"


def _numa(root: Path, place: Placement) -> Iterator[tuple[Path, str]]:
    if len(parse_cpus(_text(root / "sys/devices/system/node/online"))) > 1:
        yield root / "proc/sys/kernel/numa_balancing", "0"


def _sampling(root: Path, place: Placement) -> Iterator[tuple[Path, str]]:
    path = root / "proc/sys/kernel/perf_event_max_sample_rate"
    if 0 < int(_text(path) or 0) < 1000:
        yield path, "100000"


_FILES: dict[str, Callable[[Path, Placement], Iterator[tuple[Path, str]]]] = {
    "frequency": _governors,
    "boost": _boost,
    "interrupt affinity": _interrupts,
    "transparent huge pages": _huge_pages,
    "NUMA balancing": _numa,
    "ASLR": _one("proc/sys/kernel/randomize_va_space", "2"),
    "perf_event sampling": _sampling,
    # last, and so given back first: the others' files go with a CPU that is taken off
    "SMT siblings": _siblings,
}


def _running() -> Iterator[Wish]:
    """irqbalance, which would move interrupts back, and timers that can wait."""
    for name in units.active("irqbalance.service", *(f"{each}.timer" for each in BACKGROUND)):
        knob = "interrupt affinity" if name.endswith(".service") else "background timers"
        yield Wish(knob, "unit", name, "active", "inactive")


def _swaps(root: Path) -> Iterator[Wish]:
    """Areas of which something is in use: of the others nothing of a service comes back late.

    The kernel gives those without a priority theirs in the order in which they are switched on, so
    that those behind one go off with it. The one that is preferred comes last, and back first.
    """
    areas = [(place, used, int(priority)) for place, used, priority in _areas(root)]
    first = max((rank for _, used, rank in areas if used and rank < 0), default=-sys.maxsize)
    for place, used, rank in sorted(areas, key=lambda area: area[2]):
        if used or rank < first:
            yield Wish("swap", "swap", place, _switched_on(str(rank)), "off")


def _areas(root: Path = ROOT) -> Iterator[tuple[str, int, str]]:
    """Each area of swap, KiB in use, its priority."""
    for line in _text(root / "proc/swaps").splitlines()[1:]:
        place, _, _, used, priority = line.rsplit(maxsplit=4)
        yield re.sub(r"\\(\d{3})", lambda each: chr(int(each[1], 8)), place), int(used), priority


def _read_swap(place: str) -> str:
    found = {each: priority for each, _, priority in _areas()}
    return _switched_on(found[place]) if place in found else "off"


def _switched_on(priority: str) -> str:
    """With the priority that was asked for; a negative one the kernel gives in turn."""
    return "on" if priority.startswith("-") else f"on, priority {priority}"


def _write_swap(place: str, value: str) -> None:
    if value == "off":
        processes.run(["swapoff", place], timeout=600)
        return
    _, _, priority = value.partition(", priority ")
    asked = [f"--priority={priority}"] if priority else []
    processes.run(["swapon", *asked, place], timeout=60)


def _write_unit(name: str, value: str) -> None:
    processes.run(["systemctl", "start" if value == "active" else "stop", name], timeout=60)


def _read_smt(place: str) -> str:
    """While it is on also which CPUs somebody has taken off: all of them come with `on`."""
    state, cpus = _read_file(place), Path(place).parents[1]
    present, online = (set(parse_cpus(_text(cpus / name))) for name in ("present", "online"))
    off = present - online
    return f"on, {names(off)} off" if state == "on" and off else state


def _write_smt(place: str, value: str) -> None:
    state, _, off = value.removesuffix(" off").partition(", ")
    _write_file(place, state)
    for cpu in parse_cpus(off.split()[-1]) if off else ():
        _write_file(str(Path(place).parents[1] / f"cpu{cpu}/online"), "0")


def _read_file(place: str) -> str:
    return _chosen(Path(place).read_text().strip())


def _write_file(place: str, value: str) -> None:
    Path(place).write_text(value)


def _found(kind: str, path: Path) -> str:
    try:
        return KINDS[kind].read(str(path))
    except OSError:
        return ""


def _chosen(text: str) -> str:
    """Of several that a file offers, the one in brackets; else all of it."""
    return text.partition("[")[2].partition("]")[0] if "[" in text else text


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


KINDS = {
    "file": Kind(_read_file, _write_file),
    # who asks for it to be on, or is killed before the CPUs are off, has all of them
    "SMT": Kind(_read_smt, _write_smt, halfway=lambda now: now.startswith("on")),
    "unit": Kind(lambda name: "active" if units.active(name) else "inactive", _write_unit),
    "swap": Kind(_read_swap, _write_swap),
}
