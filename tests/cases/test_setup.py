"""What sets a machine up and what cleans it: .ci/packages and `make clean`, programs made up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.linux import processes
from harness.linux.processes import Completed

ROOT = Path(__file__).resolve().parents[2]


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def asked(tmp_path: Path, bpftool: str, apt_cache: str = 'echo "Package: $2"') -> list[str]:
    """The packages that .ci/packages looks for; it ends before it would install any."""
    programs, log = tmp_path / "bin", tmp_path / "asked"
    texts = {
        "bpftool": bpftool, "apt-cache": f'echo "$2" >>{log}\n{apt_cache}', "apt-get": "exit 1",
        "id": "echo 0", "uname": "echo 6.8.0-31-generic", "clang": "exit 0",
    }  # fmt: skip
    for name, text in texts.items():
        program(programs / name, text)
    log.touch()
    path = f"{programs}:{os.environ['PATH']}"
    processes.run([str(ROOT / ".ci/packages"), "test"], check=False, env={"PATH": path})
    return log.read_text().splitlines()


def test_a_bpftool_that_only_wraps_a_missing_one_does_not_do(tmp_path: Path) -> None:
    wrapper = "echo WARNING: bpftool not found for kernel 6.8.0-31 >&2\nexit 2"
    assert "linux-tools-6.8.0-31-generic" in asked(tmp_path, wrapper)


def test_a_bpftool_that_works_is_kept(tmp_path: Path) -> None:
    assert not {"bpftool", "linux-tools-6.8.0-31-generic"} & set(asked(tmp_path, "exit 0"))


def test_a_package_of_which_nothing_is_shown_is_none(tmp_path: Path) -> None:
    """apt-cache succeeds for the name of one that others only provide."""
    virtual = 'case $2 in linux-tools-*) ;; *) echo "Package: $2" ;; esac'
    found = asked(tmp_path, "exit 2", virtual)
    assert found[found.index("linux-tools-6.8.0-31-generic") + 1] == "bpftool"


def clean(tmp_path: Path, harness: str) -> Completed:
    """`make clean` in a checkout in which this is harness, if it is anything."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    for folder in ("bpf", "workloads"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "Makefile").write_text("clean:\n")
    (tmp_path / ".venv").mkdir()
    if harness:
        program(tmp_path / ".venv/bin/harness", f'echo "$@" >>{tmp_path / "calls"}\n{harness}')
    return processes.run(["make", "-C", str(tmp_path), "clean"], check=False)


def test_make_clean_takes_the_stack_down_first(tmp_path: Path) -> None:
    assert clean(tmp_path, "exit 0").returncode == 0
    assert (tmp_path / "calls").read_text().split() == ["down", "clean"]
    assert not (tmp_path / ".venv").exists()


def test_what_could_not_be_ended_keeps_what_can_end_it(tmp_path: Path) -> None:
    assert clean(tmp_path, "exit 2").returncode != 0
    assert (tmp_path / ".venv/bin/harness").exists()


@pytest.mark.parametrize("harness", ["", "exit 1", "exit 127"])
def test_a_broken_checkout_can_be_cleaned(harness: str, tmp_path: Path) -> None:
    assert clean(tmp_path, harness).returncode == 0
    assert not (tmp_path / ".venv").exists()
