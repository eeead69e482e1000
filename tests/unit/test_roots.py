"""What a path is in a root that is not this process's own, and which files rules mean there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.agent import files, policy_paths
from harness.agent.files import Watched
from harness.agent.policy import Rule
from harness.agent.roots import Root, Roots


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A root with links as they are in containers."""
    for name in ("bin", "usr/bin", "home/a/.ssh", "home/b/.ssh", "etc"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "usr" / "bin" / "busybox").touch()
    (tmp_path / "bin" / "sh").symlink_to("/usr/bin/busybox")
    (tmp_path / "up").symlink_to("../../../../etc")
    (tmp_path / "homes").symlink_to("/home")
    for home in ("a", "b"):
        (tmp_path / "home" / home / ".ssh" / "id_rsa").touch()
    return tmp_path


@pytest.fixture
def root(folder: Path) -> Iterator[Root]:
    with closing(Root(str(folder))) as opened:
        yield opened


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("/bin/sh", "/usr/bin/busybox"),
        ("/up", "/etc"),  # not above the root
        ("/up/later/key", "/etc/later/key"),  # what is not there yet
        ("/nowhere/at/all", "/nowhere/at/all"),
        ("/homes/a", "/home/a"),
        ("/", ""),
    ],
)
def test_links_are_followed_within(root: Root, folder: Path, path: str, real: str) -> None:
    assert root.real(path) == str(folder) + real
    assert root.reached(root.real(path)) == str(folder) + real


def test_its_own_root_is_as_it_is_here(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with closing(Root("")) as own:
        assert own.real(f"{tmp_path}/link/passwd") == os.path.realpath("/etc/passwd")
        assert own.reached("/etc/passwd") == "/etc/passwd"
        assert own.real("/") == "/"


def test_rules_for_programs_mean_those_of_every_root(root: Root, folder: Path) -> None:
    rules = (Rule("shells", "exec", ("/bin/sh", "/homes/a/*"), "kill"),)
    with closing(Root("")) as own:
        prefixes, _ = policy_paths.tries(rules, [own.real, root.real])
    paths = {key[5:].rstrip(b"\0") for key in prefixes}
    assert paths >= {
        b"/bin/sh", os.path.realpath("/bin/sh").encode(),
        f"{folder}/usr/bin/busybox".encode(), f"{folder}/home/a/".encode(),
    }  # fmt: skip


def test_files_are_those_that_patterns_stand_for_there(root: Root, folder: Path) -> None:
    rules = (
        Rule("keys", "open", ("/homes/*/.ssh/id_*", "/etc/later"), "report"),
        Rule("stricter", "open", ("/home/b/.ssh/id_rsa", "too-long"), "kill"),
        Rule("none", "exec", ("/bin/*",), "kill"),
        Rule("own", "open", ("/etc/lat*",), "ignore"),
    )
    assert files.listed(rules, [root]) == {
        f"{folder}/home/a/.ssh/id_rsa": Watched(
            f"{folder}/home/a/.ssh/id_rsa", "/homes/a/.ssh/id_rsa", 0
        ),
        f"{folder}/home/b/.ssh/id_rsa": Watched(
            f"{folder}/home/b/.ssh/id_rsa", "/home/b/.ssh/id_rsa", 1
        ),
    }


def test_the_folders_on_the_way_are_watched_for_the_next_name(root: Root, folder: Path) -> None:
    rules = (Rule("keys", "open", ("/homes/*/.ssh/id_*", "/etc/later/key"), "report"),)
    assert files.folders(rules, [root]) == {
        f"{folder}": {"homes", "etc"},
        f"{folder}/home": {"*"},
        f"{folder}/home/a": {".ssh"},
        f"{folder}/home/b": {".ssh"},
        f"{folder}/home/a/.ssh": {"id_*"},
        f"{folder}/home/b/.ssh": {"id_*"},
        f"{folder}/etc": {"later"},
    }


def test_a_root_that_leads_a_folder_to_its_top_kills_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "tmp").symlink_to("/")
    rules = (Rule("temporary", "exec", ("/tmp/*",), "kill"),)
    with closing(Root("")) as own, closing(Root(str(tmp_path))) as other:
        alone = policy_paths.tries(rules, [own.real])
        assert policy_paths.tries(rules, [own.real, other.real]) == alone


def test_roots_of_processes_that_are_not_seen_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    assert Roots(tmp_path).came()
    seen: list[int] = []
    roots = Roots(tmp_path, lambda pid: bool(seen.append(pid)))
    assert not roots.came()
    assert seen == [os.getpid()]
