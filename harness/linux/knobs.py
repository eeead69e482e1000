"""What of a machine can be set and disturbs a measurement, as one list; for `doctor` and `facts`.

Each is read without root and changes nothing. What can be held for the time of a run has a
context manager that gives it back however the run ends; the rest is advice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from harness.linux import cpu_idle, units
from harness.linux.tunables import BACKGROUND
from harness.model import IDLE_CPUS
from harness.wire.placement import names, parse_cpus
from harness.wire.spec import Placement

_CPUS = "sys/devices/system/cpu"
_SAMPLES = 1000  # a second and CPU, that a profiler may ask for
_LAYOUTS = {"0": "off", "1": "without the heap", "2": "full"}


@dataclass(frozen=True)
class State:
    """How a knob is set, in words, and whether a measurement wants it so."""

    text: str
    good: bool


@dataclass(frozen=True)
class Knob:
    """One thing that can be set: `advice` says how, for whom it is not set well, `why` what for.

    `read` takes the root of /proc and /sys and who runs where, and gives None where this machine
    has no such thing. `hold` yields whether the kernel took it.
    """

    name: str
    read: Callable[[Path, Placement], State | None]
    advice: str
    why: str
    hold: Callable[[], AbstractContextManager[bool]] | None = None


def states(place: Placement, root: Path = Path("/")) -> Iterator[tuple[Knob, State]]:
    """Every knob that this machine has, and how it is set."""
    for knob in KNOBS:
        if (state := knob.read(root, place)) is not None:
            yield knob, state


def _idle(root: Path, place: Placement) -> State:
    if cpu_idle.DEVICE.exists():
        return State("kept from halting while a run lasts", True)
    return State(f"no {cpu_idle.DEVICE}: they halt", False)


def _governor(root: Path, place: Placement) -> State | None:
    cpus: dict[str, list[int]] = {}
    for path in (root / _CPUS).glob("cpu[0-9]*/cpufreq/scaling_governor"):
        cpus.setdefault(_text(path), []).append(int(path.parts[-3].removeprefix("cpu")))
    if not cpus:
        return None
    each = (f"{governor} on {names(on)}" for governor, on in sorted(cpus.items()))
    text = next(iter(cpus)) if len(cpus) == 1 else ", ".join(each)
    return State(text, set(cpus) == {"performance"})


def _boost(root: Path, place: Placement) -> State | None:
    boost = _text(root / _CPUS / "cpufreq/boost")
    off = _text(root / _CPUS / "intel_pstate/no_turbo") or {"1": "0", "0": "1"}.get(boost, "")
    return State("off" if off == "1" else "on", off == "1") if off else None


def _smt(root: Path, place: Placement) -> State | None:
    own, beside = {*place.workload}, set()
    for cpu in own:
        beside |= {*parse_cpus(_text(root / _CPUS / f"cpu{cpu}/topology/thread_siblings_list"))}
    beside -= own
    if not beside:
        return State("no other thread on the service's cores", True)
    if beside <= {*place.idle}:
        return State(f"left idle on the service's cores: {names(beside)}", True)
    return State(f"on the service's cores: {names(beside)}", False)


def _interrupts(root: Path, place: Placement) -> State | None:
    paths = sorted((root / "proc/irq").glob("[0-9]*/effective_affinity_list"))
    targets = {int(path.parts[-2]): {*parse_cpus(_text(path))} for path in paths}
    if not targets:
        return None
    there = [number for number, cpus in targets.items() if cpus & {*place.workload}]
    text = f"{len(there)} of {len(targets)} go to the service's CPUs"
    return State(text, not there)


def _huge_pages(root: Path, place: Placement) -> State | None:
    text = _text(root / "sys/kernel/mm/transparent_hugepage/enabled")
    mode = text.partition("[")[2].partition("]")[0]
    return State(mode, mode != "always") if mode else None


def _numa(root: Path, place: Placement) -> State | None:
    text = _text(root / "proc/sys/kernel/numa_balancing")
    nodes = len(parse_cpus(_text(root / "sys/devices/system/node/online")))
    if text in ("", "0"):
        return State("off", True) if text else None
    return State("on" if nodes > 1 else "on, with one node only", nodes <= 1)


def _layout(root: Path, place: Placement) -> State | None:
    text = _text(root / "proc/sys/kernel/randomize_va_space")
    return State(_LAYOUTS.get(text, text), text == "2") if text else None


def _swap(root: Path, place: Placement) -> State | None:
    _, *lines = _text(root / "proc/swaps").splitlines() or [""]
    used = sum(int(line.split()[-2]) for line in lines)  # KiB; the last column is the priority
    if not lines:
        return State("none", True)
    return State(f"{used >> 10} MiB in use" if used else "not in use", used == 0)


def _sampling(root: Path, place: Placement) -> State | None:
    text = _text(root / "proc/sys/kernel/perf_event_max_sample_rate")
    return State(f"{text} a second at most", int(text) >= _SAMPLES) if text else None


def _timers(root: Path, place: Placement) -> State | None:
    if root != Path("/") or not units.SYSTEMD.is_dir():
        return None
    found = units.active(*(f"{name}.timer" for name in BACKGROUND))
    return State(", ".join(found) or "none", not found)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


IDLE = Knob(
    IDLE_CPUS,
    _idle,
    "Nothing to do on a machine of your own; on a virtual one intervals are wider for it.",
    "A CPU that halts takes its time to wake, and more of it where a hypervisor is asked.",
    cpu_idle.polling,
)
KNOBS = (
    IDLE,
    # before boost, which a driver may switch together with it
    Knob(
        "frequency",
        _governor,
        "Run `cpupower frequency-set -g performance` for the time of the measurement.",
        "A CPU that slows down while it waits is slow when it is asked.",
    ),
    Knob(
        "boost",
        _boost,
        f"Write 0 to /{_CPUS}/cpufreq/boost, or 1 to /{_CPUS}/intel_pstate/no_turbo, for the time "
        "of the measurement.",
        "Boosted, a CPU's speed depends on what the others do.",
    ),
    Knob(
        "SMT siblings",
        _smt,
        f"Write off to /{_CPUS}/smt/control for the time of the measurement.",
        "What runs on the other thread slows the service.",
    ),
    Knob(
        "interrupt affinity",
        _interrupts,
        "Stop irqbalance and write other CPUs to /proc/irq/N/smp_affinity_list for the time of the "
        "measurement, if these devices are busy.",
        "Handlers run in the service's time.",
    ),
    Knob(
        "transparent huge pages",
        _huge_pages,
        "Write madvise to /sys/kernel/mm/transparent_hugepage/enabled.",
        "Pages are moved together in the background, at times of the kernel's own.",
    ),
    Knob(
        "NUMA balancing",
        _numa,
        "Run `sysctl kernel.numa_balancing=0` for the time of the measurement.",
        "It unmaps pages to see who uses them.",
    ),
    Knob(
        "ASLR",
        _layout,
        "Run `sysctl kernel.randomize_va_space=2`.",
        "Fresh processes stand for one another only if their layouts differ.",
    ),
    Knob(
        "background timers",
        _timers,
        "Stop them for the time of the measurement (`systemctl stop NAME`).",
        "What they start takes CPU and disk at times of their own.",
    ),
    Knob(
        "swap",
        _swap,
        "Run `swapoff -a` for the time of the measurement, or free memory.",
        "A page that comes back from the disk is no cost of a collector.",
    ),
    Knob(
        "perf_event sampling",
        _sampling,
        "Run `sysctl kernel.perf_event_max_sample_rate=100000`.",
        "The kernel has lowered it, and refuses a profiler that asks for more.",
    ),
)
