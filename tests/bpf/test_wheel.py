"""A wheel brings the BPF objects along: an agent that was installed from one needs no compiler."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import pytest

from harness.linux import processes
from tests.bpf.conftest import READY_SECONDS, ROOT, Receiver, Service

pytestmark = pytest.mark.bpf

MACHINES = ("aarch64", "x86_64")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution of a copy of this checkout, in which nothing was built."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in ("harness", "bpf", "ci"):
        ignored = shutil.ignore_patterns(".output", "__pycache__")
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    making = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    processes.run([sys.executable, "-c", making, str(out)], cwd=tree, timeout=300)
    (source,) = out.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    words = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir"]
    processes.run([*pip, *words, str(out), str(source)], timeout=300)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel, and with what others are needed for it."""
    folder = tmp_path_factory.mktemp("environment")
    processes.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], timeout=300)
    (packages,) = folder.glob("lib/python*/site-packages")
    words = ["--no-deps", "--no-index", "--no-compile", "--target", str(packages), str(wheel)]
    processes.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *words], timeout=300
    )
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def test_it_has_every_program_for_every_architecture_and_of_which_sources(wheel: Path) -> None:
    sources = {path.name.removesuffix("c") for path in (ROOT / "bpf").glob("*.c")}
    names = {f"{each}o" if "bpf" in each else f"{each}so" for each in sources}
    with zipfile.ZipFile(wheel) as archive:
        found = {Path(name) for name in archive.namelist() if "/objects/" in name}
        sums = {p: archive.read(str(p)).decode() for p in found if p.suffix == ".sha256"}
        record = next(name for name in archive.namelist() if name.endswith("/RECORD"))
        listed = archive.read(record).decode()
        objects = Path("harness/agent/objects")
        libraries = {m: archive.read(str(objects / m / "dataplane.so"))[18:20] for m in MACHINES}
    assert libraries == {"aarch64": b"\xb7\0", "x86_64": b"\x3e\0"}  # e_machine of ELF
    ends = ("", ".sha256")
    assert found == {objects / m / f"{n}{end}" for m in MACHINES for n in names for end in ends}
    assert all(str(path) in listed for path in found)
    for text in sums.values():
        for line in text.splitlines():
            known, name = line.split(maxsplit=1)
            assert hashlib.sha256((ROOT / "bpf" / name).read_bytes()).hexdigest() == known


def test_an_agent_that_was_installed_runs_without_a_compiler(
    installed: Path, service: Service, receiver: Receiver, tmp_path: Path
) -> None:
    argv = [str(installed), "-m", "harness.agent", "flows", "--cgroup", str(service.path)]
    agent = processes.spawn(
        [*argv, "--otlp", receiver.url, "--control", "socket", "--off"],
        log=tmp_path / "log", cwd=tmp_path, env={"PATH": "/nowhere"},
    )  # fmt: skip
    try:
        ready: dict[str, Any] | None = processes.announced(agent, READY_SECONDS)
        assert ready is not None, (tmp_path / "log").read_text()
        assert ready["ready"], ready
    finally:
        processes.stop(agent)


def test_what_was_installed_is_found_there(installed: Path, tmp_path: Path) -> None:
    said = processes.run(
        [str(installed), "-c", "from harness.wire import objects; print(objects.folder())"],
        cwd=tmp_path,
    )
    (folder,) = (installed.parents[1]).glob("lib/python*/site-packages/harness/agent/objects")
    assert said.stdout.strip() == str(folder / os.uname().machine)
