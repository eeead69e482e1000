"""The scripts that the playbooks run on hosts: what they refuse, and what they leave alone."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from harness.linux import processes
from harness.linux.processes import Completed

ROLES = Path(__file__).resolve().parents[2] / "playbooks" / "roles"
SCRIPTS = sorted(ROLES.glob("*/files/*.sh"))


def run(name: str, *words: str) -> Completed:
    return processes.run(["sh", str(ROLES / name), *words], check=False)


def staged(folder: Path, name: str, content: bytes, sum_of: bytes) -> None:
    place = folder / "staged" / name
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    line = f"{hashlib.sha256(sum_of).hexdigest()}  {name}\n"
    (folder / "staged" / "SHA256SUMS").write_text(line)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_one(script: Path) -> None:
    assert processes.run(["sh", "-n", str(script)], check=False).stderr == ""


def test_a_file_that_is_not_what_it_should_be_is_not_taken(tmp_path: Path) -> None:
    name = "harness-test-never-installed"
    staged(tmp_path, name, b"one", b"another")
    done = run("host/files/take.sh", str(tmp_path))
    assert done.returncode
    assert f"{name}: FAILED" in done.stderr
    assert not (tmp_path / "taken").exists()
    assert shutil.which(name) is None


REAL = {"/usr/local/bin": "bin", "/opt/cni/bin": "cni"}


def put(tmp_path: Path, state: Path, name: str, content: bytes) -> None:
    """Take one file by a copy of the script that has its places below `tmp_path`."""
    text = (ROLES / "host/files/take.sh").read_text()
    for place, own in REAL.items():
        assert place in text
        text = text.replace(place, f"{tmp_path}/{own}")
    script = tmp_path / "take.sh"
    script.write_text(text)
    staged(state, name, content, content)
    done = processes.run(["sh", str(script), str(state)], check=False)
    assert done.returncode == 0, done.stderr


def test_what_was_there_is_kept_when_a_file_takes_its_place(tmp_path: Path) -> None:
    state, there = tmp_path / "state", tmp_path / "bin" / "kubectl"
    there.parent.mkdir()
    there.write_bytes(b"theirs")
    put(tmp_path, state, "kubectl", b"ours")
    assert there.read_bytes() == b"ours"
    put(tmp_path, state, "kubectl", b"newer")
    kept = Path(f"{state}/before{there}")
    assert kept.read_bytes() == b"theirs"
    put(tmp_path, state, "cni/bridge", b"ours")
    put(tmp_path, state, "cni/bridge", b"newer")
    assert (tmp_path / "cni" / "bridge").read_bytes() == b"newer"
    assert not Path(f"{state}/before{tmp_path}/cni").exists()


NOTHING = """#!/bin/sh
case "$(basename "$0") $*" in
"dpkg-query --show --showformat \\${db:Status-Abbrev} containerd") printf ii;;
esac
exit 0
"""
CALLED = ("kubeadm", "systemctl", "ip", "iptables-save", "ip6tables-save", "ctr", "dpkg",
          "dpkg-query", "apt-mark", "modprobe", "sysctl", "rpm")  # fmt: skip


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of notes, for a host whose programs do nothing."""
    path = tmp_path / "path"
    path.mkdir()
    for name in CALLED:
        (path / name).write_text(NOTHING)
        (path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")
    notes = tmp_path / "notes"
    notes.mkdir()
    for name in ("absent", "services", "modules", "sysctls", "noted"):
        (notes / name).touch()
    return notes


def removing(tmp_path: Path, notes: Path) -> list[str]:
    """What a reset could not remove, by a copy of the script that knows no path of this host."""
    text = (ROLES / "reset/files/reset.sh").read_text()
    for place in ("/etc/", "/usr/local/bin", "/opt/cni"):
        text = text.replace(f" {place}", f" {tmp_path}/host{place}")
        text = text.replace(f"={place}", f"={tmp_path}/host{place}")
    script = tmp_path / "reset.sh"
    script.write_text(text)
    done = processes.run(["sh", str(script), "remove", str(notes)], check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_reset_puts_back_what_was_there(tmp_path: Path, bare: Path) -> None:
    theirs = tmp_path / "tool"
    theirs.write_bytes(b"ours")
    kept = Path(f"{bare}/before{theirs}")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"theirs")
    new = tmp_path / "new"
    new.mkdir()
    (bare / "absent").write_text(f"{new}\n")
    assert removing(tmp_path, bare) == []
    assert theirs.read_bytes() == b"theirs"
    assert not new.exists()
    assert not bare.exists()


def test_a_reset_leaves_the_hosts_that_were_known_before(tmp_path: Path, bare: Path) -> None:
    hosts = tmp_path / "host/etc/hosts"
    hosts.parent.mkdir(parents=True)
    line = "192.0.2.11 cluster-endpoint # by harness-cluster\n"
    hosts.write_text(f"127.0.0.1 localhost\n{line}")
    unit = tmp_path / "host/etc/systemd/system/kubelet.service.d/20-harness-endpoint.conf"
    unit.parent.mkdir(parents=True)
    unit.touch()
    assert removing(tmp_path, bare) == []
    assert hosts.read_text() == "127.0.0.1 localhost\n"
    assert not unit.exists()


def test_a_reset_leaves_what_a_package_that_stays_has(tmp_path: Path, bare: Path) -> None:
    own, other = tmp_path / "var" / "containerd", tmp_path / "var" / "kubelet"
    own.mkdir(parents=True)
    other.mkdir()
    (bare / "absent").write_text(f"{own}\n{other}\n")
    (bare / "packages").write_text("containerd\n")
    assert removing(tmp_path, bare) == ["left: package containerd", f"left: {own}"]
    assert own.is_dir()
    assert not other.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to mount")
def test_a_reset_deletes_nothing_that_is_mounted(tmp_path: Path, bare: Path) -> None:
    """A busy mount, of a name with a blank: what is in it is somebody's."""
    folder = tmp_path / "kubelet"
    volume = folder / "a volume"
    volume.mkdir(parents=True)
    (bare / "absent").write_text(f"{folder}\n")
    processes.run(["mount", "-t", "tmpfs", "none", str(volume)])
    try:
        (volume / "data").write_text("theirs")
        with (volume / "data").open():  # so that it cannot be unmounted
            assert removing(tmp_path, bare) == [f"left: {folder}"]
        assert (volume / "data").read_text() == "theirs"
    finally:
        processes.run(["umount", str(volume)])


def test_notes_are_of_what_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    assert run("host/files/note.sh", str(folder)).returncode == 0
    absent = (folder / "absent").read_text().splitlines()
    assert absent
    assert [each for each in absent if Path(each).exists()] == []
    assert (folder / "noted").exists()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_plan_names_what_is_there_of_what_was_not(tmp_path: Path) -> None:
    """Nothing is removed by it, and what was there before is never named."""
    new, old = tmp_path / "new", tmp_path / "old"
    new.mkdir()
    old.mkdir()
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "absent").write_text(f"{new}\n{tmp_path}/never\n")
    (folder / "packages").write_text("harness-test-no-such-package\n")
    done = run("reset/files/reset.sh", "plan", str(folder))
    assert done.returncode == 0, done.stderr
    assert str(new) in done.stdout.splitlines()
    assert str(old) not in done.stdout
    assert "never" not in done.stdout
    assert "package" not in done.stdout
    assert new.is_dir()
