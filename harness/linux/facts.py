"""What a reader of a report must know of this machine; the local target gathers it once a run."""

from __future__ import annotations

import contextlib
import gzip
import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.linux import bpf_features, knobs, mount, processes
from harness.linux.placement import placement

_CPU = Path("/sys/devices/system/cpu")
_TOOLS = {
    "clang": ("clang", "--version"),
    "bpftool": ("bpftool", "version"),
    "libbpf": ("pkg-config", "--modversion", "libbpf"),
    "go": ("go", "version"),
    "java": ("java", "-version"),
    "node": ("node", "--version"),
}


def facts() -> dict[str, Any]:
    """Kernel, distribution, processor, virtualisation, settings, versions and load; JSON-able.

    `knobs` has the words of `linux/knobs`, by name; `knobs_to_set` those that are not as advised.
    """
    found = {knob.name: state for knob, state in knobs.states(placement())}
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "distribution": _os_release(),
        "cpu_model": cpu_model(_text("/proc/cpuinfo")),
        "cpus_online": os.cpu_count(),
        "cpus_usable": sorted(os.sched_getaffinity(0)),
        "smt": _text(_CPU / "smt/active") == "1",
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "virtualisation": virtualisation(),
        "container": container(),
        "clocksource": _text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "frequency_governor": found["frequency"].text if "frequency" in found else "none",
        "knobs": {name: state.text for name, state in found.items()},
        "knobs_to_set": [name for name, state in found.items() if not state.good],
        "btf": Path("/sys/kernel/btf/vmlinux").exists(),
        "cgroup_mode": cgroup_mode([m.fstype for m in mount.mounts()]),
        "mitigations": _mitigations(),
        "perf_event_paranoid": _number("/proc/sys/kernel/perf_event_paranoid"),
        "bpf_jit_enable": _number("/proc/sys/net/core/bpf_jit_enable"),
        "hardware_counters": hardware_counters(),
        "irq_time_accounting": irq_time_accounting(kernel_config()),
        "load_average": list(os.getloadavg()),
        "steal_seconds": steal_seconds(_text("/proc/stat")),
        "versions": versions(),
    }


def cpu_model(cpuinfo: str) -> str:
    """The processor's name; ARM kernels give only numbers."""
    found = re.search(r"^(?:model name|Model|cpu)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def cgroup_mode(fstypes: list[str]) -> str:
    """`v1`, `v2`, `hybrid` (both) or `none`, from the types of file systems that are mounted."""
    kinds = {"cgroup": "v1", "cgroup2": "v2"}
    found = {kinds[fstype] for fstype in fstypes if fstype in kinds}
    return "hybrid" if len(found) == 2 else next(iter(found), "none")


def hardware_counters() -> str:
    """`there`, or why instructions and cycles cannot be counted here."""
    refused = bpf_features.refusal("hardware counters")
    return f"none ({refused})" if refused else "there"


def steal_seconds(stat: str) -> float:
    """Time that the hypervisor gave to others since boot, summed over the CPUs."""
    fields = stat.split("\n", 1)[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else 0.0


def kernel_config(proc: Path = Path("/proc"), boot: Path = Path("/boot")) -> str:
    """The options that the kernel was built with; empty where they cannot be read."""
    with contextlib.suppress(OSError, EOFError):
        return gzip.decompress((proc / "config.gz").read_bytes()).decode(errors="replace")
    return _text(boot / f"config-{platform.release()}")


def irq_time_accounting(config: str) -> bool | None:
    """Whether time in interrupts is kept out of the tasks' and cgroups' CPU time; None: unknown."""
    return "\nCONFIG_IRQ_TIME_ACCOUNTING=y" in f"\n{config}" if config else None


def virtualisation() -> str:
    """The hypervisor as systemd names it, else what /proc/cpuinfo tells; `none` on metal."""
    with contextlib.suppress(HarnessError):
        found = processes.run(["systemd-detect-virt", "--vm"], check=False).stdout.strip()
        if found and found != "none":
            return found
    if re.search(r"^flags\s*:.*\bhypervisor\b", _text("/proc/cpuinfo"), re.MULTILINE):
        return _text("/sys/class/dmi/id/sys_vendor") or "virtual machine"
    return "none"


def container() -> str:
    """The container engine that this process runs under, as systemd names it, or `none`."""
    with contextlib.suppress(HarnessError):
        done = processes.run(["systemd-detect-virt", "--container"], check=False)
        return done.stdout.strip() or "none"
    return "unknown"


def versions() -> dict[str, str]:
    """Versions of what builds and runs the pieces; `absent` where it is not installed."""
    found = {"python": platform.python_version()}
    for package in ("locust", "opentelemetry-proto", "gunicorn"):
        found[package] = "absent"
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found | {name: tool_version(argv) for name, argv in _TOOLS.items()}


def tool_version(argv: tuple[str, ...]) -> str:
    """The first version number that the tool prints, or `absent`."""
    try:
        done = processes.run(argv, check=False, timeout=20)
    except HarnessError:
        return "absent"
    found = re.search(r"\d+(?:\.\d+)+", done.stdout + done.stderr)
    return found[0] if found and done.returncode == 0 else "absent"


def _mitigations() -> dict[str, str]:
    found = {}
    for path in sorted((_CPU / "vulnerabilities").glob("*")):
        state = _text(path)
        if state != "Not affected":
            found[path.name] = state
    return found


def _os_release() -> str:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    return "unknown"


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: str) -> int | None:
    text = _text(path)
    return int(text) if text else None
