"""What is copied to a host: all that a node imports, nothing else, the same bytes each time."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

from harness.errors import NeedError
from harness.targets import bundle as bundles
from harness.targets import packages
from harness.targets.bundle import ROOT, Bundle
from harness.targets.packages import Python
from harness.wire.code import NODE

HOST = Python("3.11.2", "x86_64", 36)
LOCK = """# made by uv
flask==3.1.3 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via
    #   harness (pyproject.toml)
    #   locust
locust==2.47.0 \\
    --hash=sha256:cc
    # via harness (pyproject.toml)
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:dd
    # via flask
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:ee
    # via harness (pyproject.toml)
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:ff
    # via harness (pyproject.toml)
scipy==1.17.1 \\
    --hash=sha256:00
    # via harness (pyproject.toml)
zope-event==6.2 \\
    --hash=sha256:11
    # via gevent
gevent==26.9.0 \\
    --hash=sha256:22
    # via locust
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with something built."""
    root = tmp_path / "root"
    for name, text in {
        "harness/__init__.py": "",
        "harness/node/__init__.py": "'''The node.'''",
        "harness/node/__pycache__/x.pyc": "no",
        "harness/report/__init__.py": "",
        "workloads/go/.output/server": "program",
        "bpf/.output/http.bpf.o": "object",
        "bpf/.output/http.bpf.o.sha256": f"{hashlib.sha256(b'source').hexdigest()}  http.bpf.c\n",
        "bpf/.output/dataplane.so": "library",
        "bpf/.output/aarch64/http.bpf.o": "of another architecture",
        "bpf/Makefile": "all:",
        "bpf/http.bpf.c": "source",
        "requirements.lock": LOCK,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "workloads/go/.output/server").chmod(0o755)
    return root


@pytest.fixture
def cache(tree: Path, tmp_path: Path) -> Path:
    """Packages that were fetched."""
    folder = tmp_path / "cache"
    wanted = bundles.bundle(HOST, tree).requirements
    fetched = folder / f"packages-{packages.key(wanted, HOST)}"
    (fetched / "numpy").mkdir(parents=True)
    (fetched / "numpy/__init__.py").write_text("")
    return folder


def packed(bundle: Bundle, cache: Path) -> bytes:
    into = io.BytesIO()
    bundle.write(into, lambda _: None, cache)
    return into.getvalue()


def test_a_bundle_holds_what_a_node_needs_and_nothing_else(tree: Path, cache: Path) -> None:
    data = packed(bundles.bundle(HOST, tree), cache)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        modes = {entry.name: entry.mode for entry in archive.getmembers()}
    assert modes == {
        "harness/__init__.py": 0o644,
        "harness/node/__init__.py": 0o644,
        "bpf/.output/dataplane.so": 0o644,
        "bpf/.output/http.bpf.o": 0o644,
        "workloads/go/.output/server": 0o755,
        "packages/numpy/__init__.py": 0o644,
    }


def test_the_same_files_give_the_same_bytes_whenever_they_were_written(
    tree: Path, cache: Path, tmp_path: Path
) -> None:
    first = bundles.bundle(HOST, tree)
    other = tmp_path / "other"
    shutil.copytree(tree, other)
    for path in other.rglob("*"):
        os.utime(path, (1, 1))
    second = bundles.bundle(HOST, other)
    assert first.key == second.key
    assert packed(first, cache) == packed(second, cache)


@pytest.mark.parametrize(
    "name", ["harness/node/__init__.py", "workloads/go/.output/server", "bpf/.output/http.bpf.o",
             "bpf/.output/dataplane.so"],
)  # fmt: skip
def test_another_content_gives_another_name(tree: Path, name: str) -> None:
    before = bundles.bundle(HOST, tree).key
    (tree / name).write_text("other")
    assert bundles.bundle(HOST, tree).key != before


def test_another_python_or_lock_gives_another_name(tree: Path) -> None:
    before = bundles.bundle(HOST, tree).key
    assert bundles.bundle(Python("3.12.3", "x86_64", 36), tree).key != before
    (tree / "requirements.lock").write_text(LOCK.replace("gevent==26.9.0", "gevent==26.9.1"))
    assert bundles.bundle(HOST, tree).key != before


def test_collectors_that_are_not_built_are_asked_for(tree: Path) -> None:
    shutil.rmtree(tree / "bpf/.output")
    with pytest.raises(NeedError, match="make bpf"):
        bundles.bundle(HOST, tree)


def test_collectors_of_other_sources_are_not_packed(tree: Path) -> None:
    """By content: a source that a checkout brings may be older than the object."""
    source = tree / "bpf/http.bpf.c"
    source.write_text("another source")
    os.utime(source, (1, 1))
    with pytest.raises(NeedError, match="not built from the sources that are here: http"):
        bundles.bundle(HOST, tree)


def test_an_object_that_does_not_say_what_it_was_made_of_is_not_packed(tree: Path) -> None:
    (tree / "bpf/.output/http.bpf.o.sha256").unlink()
    with pytest.raises(NeedError, match="make bpf"):
        bundles.bundle(HOST, tree)


def test_a_lock_is_cut_to_what_a_node_needs_and_judged_for_the_hosts_python() -> None:
    old = packages.requirements(LOCK, HOST).splitlines()
    assert old == [
        "flask==3.1.3 --hash=sha256:aa --hash=sha256:bb",
        "locust==2.47.0 --hash=sha256:cc",
        "numpy==2.4.6 --hash=sha256:ee",
        "zope-event==6.2 --hash=sha256:11",
        "gevent==26.9.0 --hash=sha256:22",
    ]
    new = packages.requirements(LOCK, Python("3.12.3", "x86_64", 36))
    assert "numpy==2.5.5" in new
    assert "numpy==2.4.6" not in new


def test_wheels_are_asked_for_up_to_the_hosts_glibc() -> None:
    names = Python("3.11.2", "x86_64", 28).platforms
    assert names[0] == "manylinux_2_28_x86_64"
    assert "manylinux2014_x86_64" in names
    assert "manylinux_2_29_x86_64" not in names


def imported(path: Path) -> set[str]:
    """The modules that a file imports, in full."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def code() -> dict[str, Path]:
    folder, names = ROOT / "harness", NODE
    files = [
        *folder.glob("*.py"),
        *(each for name in names for each in (folder / name).rglob("*.py")),
    ]
    return {str(path.relative_to(ROOT)): path for path in files if path.name != "__main__.py"}


def test_all_of_our_own_that_a_node_imports_is_in_the_bundle() -> None:
    absent = {
        f"{name} imports {module}"
        for name, path in code().items()
        for module in imported(path)
        if module.startswith("harness.") and module.split(".")[1] not in NODE
        and (ROOT / "harness" / module.split(".")[1]).is_dir()
    }  # fmt: skip
    assert not absent


def test_all_of_others_that_a_node_imports_is_among_its_packages() -> None:
    known = {"google": "protobuf", "hdrh": "hdrhistogram", "geventhttpclient": "geventhttpclient"}
    elsewhere = {"harness", "bcc", "grafana_foundation_sdk"}  # Debian's; the stack's boards alone
    lock = packages.requirements((ROOT / "requirements.lock").read_text(), HOST)
    had = {line.split("==")[0] for line in lock.splitlines()}
    tops = {module.split(".")[0] for path in code().values() for module in imported(path)}
    wanted = tops - sys.stdlib_module_names - elsewhere
    absent = {
        top for top in wanted
        if known.get(top, top) not in had and not any(each.startswith(f"{top}-") for each in had)
    }  # fmt: skip
    assert not absent
    assert {"numpy", "locust"} <= wanted
