"""What this machine can run, and the fix for each thing that it cannot; for `answers`."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.linux import bpf_features, facts, knobs, mount, syscall
from harness.linux.placement import placement
from harness.node import needs, subject_source
from harness.wire import objects
from harness.wire.spec import Needs

Status = Literal["pass", "warn", "fail"]

_ROOT = Path(__file__).parents[2]
_SETUP = "Run `make setup`."
# tool -> (severity where it is missing, what it is for)
_BUILDING: dict[str, tuple[Status, str]] = {
    "clang": ("fail", "builds the collectors"),
    "ld.lld": ("fail", "links what collectors do in C"),
    "go": ("warn", "builds the Go workload"),
    "javac": ("warn", "builds the Java workload"),
    "chromium": ("warn", "only the tests need it: they look at the report in it"),
}
_TOOLS: dict[str, tuple[Status, str]] = {
    "java": ("warn", "runs the Java workload"),
    "node": ("warn", "runs the Node.js workload"),
}
# probes that no collector takes: who does, and what is to be known where they are refused
_USED = {"hardware counters": "the meter of instructions a request"}
_WITHOUT = {
    "hardware counters": "Nothing to do: reports compare CPU time, without instructions a request; "
    "a machine whose hypervisor passes the processor's counters (PMU) on has them.",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `fix` is a sentence, empty where nothing is to be done."""

    name: str
    status: Status
    detail: str
    fix: str = ""


def check(collectors: Sequence[Needs] = ()) -> list[Finding]:
    """Look at everything, at the hooks that these collectors take, and at whose others can be had.

    It changes nothing, and works (finding less) without root.
    """
    ours = [each for each in collectors if each.subject is None]
    theirs = {each.name: each for each in collectors if each.subject is not None}
    return [*(f for look in CHECKS for f in look()), *_hooks(ours), *_others(theirs)]


def _verdict(name: str, good: bool, detail: str, fix: str, bad: Status = "fail") -> Finding:
    return Finding(name, "pass" if good else bad, detail, "" if good else fix)


def _root() -> Iterator[Finding]:
    uid = os.geteuid()
    fix = "Run the command with sudo: only root may load BPF programs and make cgroups."
    yield _verdict("root", uid == 0, f"user id {uid}", fix)


def _python() -> Iterator[Finding]:
    detail = ".".join(map(str, sys.version_info[:3]))
    yield _verdict("python", sys.version_info >= (3, 11), detail, "Install Python 3.11 or later.")


def _kernel() -> Iterator[Finding]:
    release = os.uname().release
    fix = (
        "Use a kernel with CONFIG_DEBUG_INFO_BTF=y; all current distributions have it. Without, an"
        " agent of `profile` alone runs, where it is given this kernel's BTF: --btf FILE."
    )
    has_btf = bpf_features.BTF.exists()
    yield _verdict("BTF", has_btf, f"{release}, {bpf_features.BTF if has_btf else 'no BTF'}", fix)
    jit = _text("/proc/sys/net/core/bpf_jit_enable")
    fix = "Run `sysctl net.core.bpf_jit_enable=1`: interpreted programs cost several times as much."
    yield _verdict("BPF JIT", jit != "0", {"": "always on", "0": "off"}.get(jit, "on"), fix, "warn")
    apart = facts.irq_time_accounting(facts.kernel_config())
    known = {None: "unknown", True: "counted apart", False: "counted with the task they hit"}
    fix = "Read the report's rows of a cgroup's CPU with care: they leave interrupts out here."
    yield _verdict("interrupt time", not apart, known[apart], fix, "warn")
    lockdown = _text("/sys/kernel/security/lockdown")
    fix = "Switch Secure Boot off, or boot with lockdown=integrity."
    detail = lockdown or "not built in"
    yield _verdict("lockdown", "[confidentiality]" not in lockdown, detail, fix)
    paranoid = _text("/proc/sys/kernel/perf_event_paranoid")
    yield Finding("perf_event_paranoid", "pass", f"{paranoid or 'unknown'}; root is exempt")


def _statistics() -> Iterator[Finding]:
    if os.geteuid() != 0:
        return
    try:
        os.close(syscall.enable_bpf_stats())
    except OSError as error:
        fix = "Use a kernel of 5.8 or later: without it the time in BPF programs is not known."
        yield Finding("BPF statistics", "fail", error.strerror or str(error), fix)
    else:
        yield Finding("BPF statistics", "pass", "can be switched on for the time of a trial")


def _hooks(collectors: Sequence[Needs]) -> Iterator[Finding]:
    if os.geteuid() != 0:
        yield Finding("hooks", "warn", "not tried without root", "Run `harness doctor` with sudo.")
        return
    for name in bpf_features.PROBES:
        refused = bpf_features.refusal(name)
        users = ", ".join(each.name for each in collectors if name in each.hooks)
        likers = ", ".join(each.name for each in collectors if name in each.prefers)
        if not refused:
            used = users or likers or _USED.get(name, "")
            yield Finding(name, "pass", f"used by {used}" if used else "works")
        elif users:
            fix = f"Use another kernel for the collectors {users}; the others run."
            yield Finding(name, "fail", refused, fix)
        else:
            fix = (
                f"Nothing to do: {likers} takes another hook."
                if likers
                else _WITHOUT.get(name, "Nothing to do: no included collector needs it.")
            )
            yield Finding(name, "warn", refused, fix)


def _others(collectors: Mapping[str, Needs]) -> Iterator[Finding]:
    """Which of other people's collectors can run here; nothing is fetched for that."""
    if not collectors:
        return
    refused = {
        name
        for name, each in collectors.items()
        if each.subject is not None and subject_source.refusal(name, each.subject)
    }
    kept = {name: each for name, each in collectors.items() if name not in refused}
    lacking = needs.unmet(kept) if os.geteuid() == 0 else {}
    here = ", ".join(name for name in kept if name not in lacking)
    yield Finding("other people's collectors", "pass", f"can run: {here or 'none'}")
    for name, error in lacking.items():
        yield Finding(name, "warn", f"{error.what} {error.why}", error.next_step)
    if refused:
        fix = "Leave them out; `harness collector list` says of each why, and how it is got."
        yield Finding("those that are not here", "warn", ", ".join(sorted(refused)), fix)


def _cgroups() -> Iterator[Finding]:
    mounts = mount.mounts()
    mode, point = facts.cgroup_mode([each.fstype for each in mounts]), mount.find("cgroup2")
    if point is not None:
        yield Finding("cgroup v2", "pass", f"{mode}, at {point}")
        return
    known = "cgroup2" in Path("/proc/filesystems").read_text()
    fix = "Nothing to do: a run mounts it and unmounts it again."
    if known:
        yield Finding("cgroup v2", "warn", f"{mode}, not mounted", fix)
    else:
        yield Finding("cgroup v2", "fail", mode, "Use a kernel with cgroup v2 (4.15 or later).")


def _mounts() -> Iterator[Finding]:
    for fstype, point in mount.POINTS.items():
        found = mount.find(fstype)
        detail = str(found) if found else f"not mounted; a run mounts it at {point} and unmounts it"
        yield Finding(fstype if fstype != "bpf" else "bpffs", "pass", detail)


def _tools() -> Iterator[Finding]:
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin:/usr/local/go/bin"
    builds = (_ROOT / "bpf" / "Makefile").exists()  # what was copied to a host is built
    for tool, (severity, purpose) in (_BUILDING | _TOOLS if builds else _TOOLS).items():
        found = shutil.which(tool, path=path)
        fix = f"{_SETUP} It {purpose}." if tool != "chromium" else f"Nothing to do: {purpose}."
        yield _verdict(tool, found is not None, found or "absent", fix, severity)
    libbpf = ctypes.util.find_library("bpf")
    yield _verdict("libbpf", libbpf is not None, libbpf or "absent", _SETUP)
    bcc = importlib.util.find_spec("bcc") is not None
    fix = f"{_SETUP} Without it the profile shows addresses instead of names."
    yield _verdict("BCC", bcc, "its symbol cache" if bcc else "absent", fix, "warn")


def _built() -> Iterator[Finding]:
    folder, lacking = objects.folder(_ROOT), objects.outdated(_ROOT)
    found = sorted(path.name.removesuffix(objects.SUFFIX) for path in folder.glob("*.bpf.o"))
    if not found and not lacking:
        detail, fix = f"none for this processor in {folder}", "Install on x86_64 or aarch64."
        yield Finding("collectors", "fail", detail, fix)
        return
    detail = (
        f"not built, or of other sources: {', '.join(lacking)}" if lacking else ", ".join(found)
    )
    yield _verdict("collectors", not lacking, detail, "Run `make bpf`.", "warn")


def _machine() -> Iterator[Finding]:
    place = placement()
    count = len(os.sched_getaffinity(0))
    fix = "Use a machine with 2 CPUs or more: on one, the load's noise hides the collectors' cost."
    yield _verdict("CPUs", count >= 2, place.why, fix, "warn")
    free = shutil.disk_usage(Path.cwd()).free
    fix = "Free some space, or start in another directory: a run keeps its measurements there."
    yield _verdict("disk", free >= 1 << 30, f"{free >> 20} MiB free in {Path.cwd()}", fix)
    clock = _text("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    slow = clock in ("hpet", "acpi_pm", "jiffies")
    fix = "Boot with clocksource=tsc if the processor has a stable one: reading this clock is slow."
    yield _verdict("clocksource", not slow, clock or "unknown", fix, "warn")
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    enough = files == resource.RLIM_INFINITY or files >= 1024
    yield _verdict("open files", enough, f"limit {files}", "Run `ulimit -n 4096` first.", "warn")


def _knobs() -> Iterator[Finding]:
    found = {knob.name: state for knob, state in knobs.states(placement())}
    for knob in knobs.KNOBS:
        state = found.get(knob.name, knobs.State("not ours to set", True))
        yield _verdict(knob.name, state.good, state.text, f"{knob.advice} {knob.why}", "warn")


def _hypervisor() -> Iterator[Finding]:
    stolen = facts.steal_seconds(_text("/proc/stat"))
    uptime = float(_text("/proc/uptime").split()[0]) * (os.cpu_count() or 1)
    share = stolen / uptime
    detail = f"{facts.virtualisation()}; {share:.1%} of CPU time went to other guests since boot"
    fix = "Measure on a quieter host, or take more blocks: the report's intervals tell."
    yield _verdict("hypervisor", share < 0.05, detail, fix, "warn")


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _root, _python, _kernel, _statistics, _cgroups, _mounts, _tools, _built, _machine, _knobs,
    _hypervisor,
)  # fmt: skip
