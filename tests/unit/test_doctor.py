"""The doctor tells the truth about this machine, and has a fix for whatever is wrong."""

from __future__ import annotations

import ctypes.util
import os
import re
import shutil
from pathlib import Path

import pytest

from harness.collectors import REGISTRY, subject
from harness.linux import bpf_features, cpu_idle, facts
from harness.node import doctor
from harness.node.doctor import Finding
from harness.plan import trials
from harness.wire.spec import Needs
from harness.wire.subject import Source, Subject

NEEDS = list(trials.needs(REGISTRY).values())


def _named(name: str) -> Finding:
    (found,) = [finding for finding in doctor.check(NEEDS) if finding.name == name]
    return found


def test_whatever_is_wrong_has_a_fix() -> None:
    findings = doctor.check(NEEDS)
    assert len({finding.name for finding in findings}) == len(findings) > 20
    for finding in findings:
        assert finding.detail
        assert (finding.status == "pass") == (finding.fix == ""), finding
        assert finding.fix == "" or finding.fix.endswith("."), finding


def test_without_root_it_says_so_and_tries_no_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(bpf_features, "refusal", lambda name: pytest.fail("a hook was tried"))
    assert _named("root").status == "fail"
    assert "sudo" in _named("root").fix
    assert _named("hooks").status == "warn"


def test_a_kernel_without_btf_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bpf_features, "BTF", tmp_path / "absent")
    assert "`profile` alone" in _named("BTF").fix
    assert "--btf FILE" in _named("BTF").fix
    assert _named("BTF").status == "fail"
    assert "CONFIG_DEBUG_INFO_BTF" in _named("BTF").fix


def test_a_missing_hook_fails_only_those_who_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(bpf_features, "refusal", lambda name: "Operation not permitted")
    needed = _named("perf_event")
    assert (needed.status, needed.detail) == ("fail", "Operation not permitted")
    assert "for the collectors profile;" in needed.fix
    assert "for the collectors http, inject, sham;" in _named("cgroup_skb").fix
    assert _named("kprobe").status == "warn"
    assert "guard takes another hook" in _named("lsm").fix


def test_a_collector_names_the_hooks_that_it_takes() -> None:
    sources = sorted((Path(__file__).parents[2] / "bpf").glob("*.bpf.c"))
    assert sources
    for source in sources:
        collector = source.name.removesuffix(".bpf.c")
        if collector == "empty":  # for calibration: it takes whatever hooks there are
            continue
        for section in re.findall(r'^SEC\("([^".?]+)"\)\s*$', source.read_text(), re.MULTILINE):
            # one program type, probed once
            section = re.sub(r"(connect|sendmsg)[46]$", "connect4", section)
            hooks = [name for name in bpf_features.PROBES if f"{section}/".startswith(f"{name}/")]
            assert hooks, f"{source.name}: nothing probes {section}"
            taken = (*REGISTRY[collector].hooks, *REGISTRY[collector].prefers)
            assert hooks[0] in taken, f"{collector} takes {section}"


@pytest.mark.parametrize(
    ("tool", "status"), [("clang", "fail"), ("java", "warn"), ("node", "warn")]
)
def test_a_missing_tool(monkeypatch: pytest.MonkeyPatch, tool: str, status: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    assert _named(tool).status == status
    assert "make setup" in _named(tool).fix


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    assert _named("libbpf").status == "fail"


def test_a_busy_host_and_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "steal_seconds", lambda text: 1e9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    assert _named("hypervisor").status == "warn"
    assert _named("disk").status == "fail"


@pytest.mark.parametrize(("apart", "status"), [(True, "warn"), (False, "pass"), (None, "pass")])
def test_interrupts_that_are_counted_apart(
    monkeypatch: pytest.MonkeyPatch, apart: bool | None, status: str
) -> None:
    monkeypatch.setattr(facts, "irq_time_accounting", lambda config: apart)
    assert _named("interrupt time").status == status


@pytest.mark.parametrize(
    ("texts", "there"), [(b"\0BPF_FUNC_loop\0", True), (b"\0BPF_FUNC_loops\0", False)]
)
def test_a_helper_is_there_if_the_kernel_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, texts: bytes, there: bool
) -> None:
    monkeypatch.setattr(bpf_features, "BTF", tmp_path / "btf")
    (tmp_path / "btf").write_bytes(texts)
    assert (bpf_features.refusal("bpf_loop") == "") == there


def test_a_type_is_found_by_kind_and_name() -> None:
    texts = b"\0int\0task\0vfs_read\0"
    integer = _type(1, 1, 0, 4) + b"\0\0\0\x20"
    struct_ = _type(5, 4, 2, 8) + bytes(24)
    function = _type(10, 12, 0, 1)
    types = integer + struct_ + function
    header = (0xEB9F).to_bytes(2, "little") + b"\x01\x00"
    sizes = (24, 0, len(types), len(types), len(texts))
    btf = header + b"".join(n.to_bytes(4, "little") for n in sizes) + types + texts
    assert bpf_features.find_type(btf, 12, "vfs_read") == 3
    assert bpf_features.find_type(btf, 4, "task") == 2
    with pytest.raises(LookupError, match="no vfs_read"):
        bpf_features.find_type(btf, 8, "vfs_read")
    with pytest.raises(LookupError, match="no vfs"):
        bpf_features.find_type(btf, 12, "vfs")


def _type(name: int, kind: int, members: int, size: int) -> bytes:
    return b"".join(n.to_bytes(4, "little") for n in (name, kind << 24 | members, size))


def test_a_machine_whose_idle_cpus_halt_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cpu_idle, "DEVICE", tmp_path / "absent")
    assert _named("idle CPUs").status == "warn"
    (tmp_path / "absent").touch()
    assert _named("idle CPUs").status == "pass"


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> list[Needs]:
    """Needs of three of other people's: one is on PATH, one needs a hook, one is not there."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    refused = {"kprobe": "Operation not permitted"}
    monkeypatch.setattr(bpf_features, "refusal", lambda name: refused.get(name, ""))
    here, gone = Source("path", "python3"), Source("path", "no-such-program", why="Nobody has it.")
    return [
        Needs("mine", (), subject=Subject("process", here)),
        Needs("hooked", ("kprobe",), subject=Subject("process", here)),
        Needs("absent", ("kprobe",), subject=Subject("process", gone)),
    ]


def test_other_people_s_collectors_are_told_by_what_they_lack(others: list[Needs]) -> None:
    told = {finding.name: finding for finding in doctor.check([*NEEDS, *others])}
    assert told["other people's collectors"].detail == "can run: mine"
    assert told["hooked"].status == "warn"
    assert "the kernel refuses kprobe" in told["hooked"].detail
    assert told["those that are not here"].detail == "absent"
    assert "collector list" in told["those that are not here"].fix
    assert told["kprobe"].status == "warn"  # of ours none takes it, and a machine can do without


def test_all_that_ship_are_looked_at() -> None:
    known = {name: subject.load(name) for name in subject.names()}
    found = doctor.check(list(trials.needs(known).values()))
    for finding in found:
        assert (finding.status == "pass") == (finding.fix == ""), finding
    lines = " ".join(finding.detail for finding in found[-30:]).replace(",", " ").split()
    named = {*lines, *(finding.name for finding in found)}
    assert {name for name, each in known.items() if not each.daemonset} <= named
