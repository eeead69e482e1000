"""The script that takes a cluster off a host with rpm, which is played; there is no dpkg."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from harness.linux import processes
from tests.cases.placed import put
from tests.cases.test_host_scripts import ROLES
from tests.cases.test_reset_script import CALLED, removing, resetting

NEEDED = ("sh", "awk", "basename", "cat", "comm", "cp", "dirname", "find", "grep", "mkdir", "rm",
          "sed", "sort", "touch")  # fmt: skip
RPM = """#!/bin/sh
# of FOLDER/packages, a line each: NAME and what needs it
case "$*" in
'--quiet -q '*) exec grep -q "^$3 " FOLDER/packages ;;
*gpg-pubkey) exec cat FOLDER/keys ;;
'-qa '*) exec cut -d' ' -f1 FOLDER/packages ;;
esac
shift
for name; do
    needs=$(sed -n "s/^$name //p" FOLDER/packages)
    for other in $needs; do
        case " $* " in *" $other "*) continue ;; esac
        ! grep -q "^$other " FOLDER/packages || exit 1
    done
done
for name; do
    for list in packages keys; do
        grep -v "^$name\\( \\|\\$\\)" FOLDER/$list >FOLDER/draft
        cat FOLDER/draft >FOLDER/$list
    done
done
"""
OURS = ["gpg-pubkey-9a296436-62f3de9e", "gpg-pubkey-621e9f35-58adf78d"]
THEIRS = ["gpg-pubkey-fd431d51-4ae0493b"]


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of notes, for a host whose programs do nothing; but for rpm."""
    for name in (*CALLED, "systemctl"):
        if not name.startswith(("dpkg", "apt")):
            put(tmp_path, f"path/{name}", "#!/bin/sh\nexit 0\n")
    for name in (*NEEDED, "cut"):
        found = shutil.which(name)
        assert found
        (tmp_path / "path" / name).symlink_to(found)
    put(tmp_path, "path/rpm", RPM)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    notes = tmp_path / "notes"
    notes.mkdir()
    for name in ("absent", "services", "modules", "sysctls", "noted"):
        (notes / name).touch()
    (tmp_path / "keys").touch()
    (tmp_path / "packages").touch()
    return notes


def test_a_package_that_is_needed_by_now_keeps_no_other(tmp_path: Path, noted: Path) -> None:
    """cri-tools can go once kubeadm, which needs it, is gone."""
    there = {"kubectl": "", "cri-tools": "kubeadm", "kubeadm": "", "socat": "theirs", "theirs": ""}
    (tmp_path / "packages").write_text("".join(f"{name} {by}\n" for name, by in there.items()))
    (noted / "packages").write_text("cri-tools\nkubectl\nkubeadm\nsocat\n")
    assert removing(tmp_path, noted) == ["left: package socat"]
    assert (tmp_path / "packages").read_text() == "socat theirs\ntheirs \n"
    assert not noted.exists()


def test_packages_that_need_one_another_go_at_once(tmp_path: Path, noted: Path) -> None:
    (tmp_path / "packages").write_text("one two\ntwo one\ntheirs \n")
    (noted / "packages").write_text("one\ntwo\n")
    assert removing(tmp_path, noted) == []
    assert (tmp_path / "packages").read_text() == "theirs \n"


def test_keys_of_repositories_that_were_not_known_go(tmp_path: Path, noted: Path) -> None:
    (tmp_path / "keys").write_text("\n".join((*OURS, *THEIRS, "")))
    (noted / "keys").write_text(f"{OURS[0]}\n")
    words = ["sh", str(resetting(tmp_path)), "plan", str(noted)]
    plan = processes.run(words, check=False).stdout.splitlines()
    assert [line for line in plan if line.startswith("key ")] == [f"key {OURS[1]}"]
    assert removing(tmp_path, noted) == []
    assert (tmp_path / "keys").read_text().splitlines() == [OURS[0], *THEIRS]


def test_keys_stay_where_it_was_not_noted_which_there_were(tmp_path: Path, noted: Path) -> None:
    (tmp_path / "keys").write_text("\n".join((*OURS, "")))
    assert removing(tmp_path, noted) == []
    assert (tmp_path / "keys").read_text().splitlines() == OURS


def test_the_keys_that_go_are_those_that_are_trusted() -> None:
    trusted = yaml.safe_load((ROLES / "host/vars/main.yml").read_text())
    ids = [trusted[f"host_{of}_key"][-8:].lower() for of in ("kubernetes", "docker")]
    script = (ROLES / "reset/files/reset.sh").read_text()
    assert re.findall(r"grep -E '\(([0-9a-f|]+)\)-", script) == ["|".join(ids)]
