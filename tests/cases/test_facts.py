"""What the kernel's files say of a machine in, facts out."""

from __future__ import annotations

import gzip
import os
import platform
from pathlib import Path

import pytest

from harness.linux import facts


@pytest.mark.parametrize(
    ("cpuinfo", "model"),
    [
        ("processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC 7R13\n", "AMD EPYC 7R13"),
        ("processor\t: 0\nBogoMIPS\t: 108\n\nModel\t\t: Raspberry Pi 5\n", "Raspberry Pi 5"),
        ("processor\t: 0\ncpu\t\t: POWER9, altivec supported\n", "POWER9, altivec supported"),
    ],
)
def test_processor_names(cpuinfo: str, model: str) -> None:
    assert facts.cpu_model(cpuinfo) == model


@pytest.mark.parametrize(
    ("fstypes", "mode"),
    [
        (["proc", "cgroup2"], "v2"),
        (["cgroup", "cgroup", "cgroup2"], "hybrid"),
        (["cgroup"], "v1"),
        (["tmpfs"], "none"),
    ],
)
def test_cgroup_modes(fstypes: list[str], mode: str) -> None:
    assert facts.cgroup_mode(fstypes) == mode


def test_stolen_time() -> None:
    tick = os.sysconf("SC_CLK_TCK")
    stat = "cpu  10950 0 4203 187151 1126 0 141 1065 0 0\ncpu0 1 2 3\n"
    assert facts.steal_seconds(stat) == 1065 / tick
    assert facts.steal_seconds("cpu  1 2 3 4\n") == 0


def test_a_tool_that_is_not_there() -> None:
    assert facts.tool_version(("no-such-tool-here", "--version")) == "absent"
    assert facts.tool_version(("false",)) == "absent"


@pytest.mark.parametrize(
    ("config", "apart"),
    [
        ("CONFIG_BPF=y\nCONFIG_IRQ_TIME_ACCOUNTING=y\n", True),
        ("# CONFIG_IRQ_TIME_ACCOUNTING is not set\nCONFIG_HAVE_IRQ_TIME_ACCOUNTING=y\n", False),
        ("", None),
    ],
)
def test_whether_interrupts_are_counted_apart(
    tmp_path: Path, config: str, apart: bool | None
) -> None:
    assert facts.irq_time_accounting(facts.kernel_config(tmp_path, tmp_path)) is None
    (tmp_path / f"config-{platform.release()}").write_text(config)
    assert facts.irq_time_accounting(facts.kernel_config(tmp_path, tmp_path)) is apart
    (tmp_path / "config.gz").write_bytes(gzip.compress(config.encode()))
    (tmp_path / f"config-{platform.release()}").unlink()
    assert facts.irq_time_accounting(facts.kernel_config(tmp_path, tmp_path)) is apart
