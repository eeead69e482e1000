"""The scripts that the playbooks run on hosts: what they refuse, and what they leave alone."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from harness.linux import processes
from harness.linux.processes import Completed
from tests.cases import placed

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
    lines = (state / "taken").read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["kubectl", "cni/bridge"]
    assert lines[0].startswith(hashlib.sha256(b"newer").hexdigest())


def test_a_note_of_cilium_is_made_once_and_has_parameters_that_can_be_set_again(
    tmp_path: Path,
) -> None:
    (tmp_path / "absent").touch()
    for _ in range(2):
        done = run("host/files/note-cilium.sh", str(tmp_path))
        assert done.returncode == 0, done.stderr
    expected = [] if Path("/run/cilium").exists() else ["/run/cilium"]
    assert (tmp_path / "absent").read_text().splitlines() == expected
    assert (tmp_path / "bpffs").exists() != os.path.ismount("/sys/fs/bpf")
    noted = dict(line.split(" = ") for line in (tmp_path / "cilium").read_text().splitlines())
    for name, value in noted.items():
        assert Path("/proc/sys", *name.split(".")).read_text().split() == value.split()
    assert "net.ipv4.conf.all.rp_filter" in noted
    assert not (tmp_path / "cilium.draft").exists()


OF_A_KUBELET = {
    "vm.overcommit_memory", "vm.panic_on_oom", "kernel.panic", "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys", "kernel.keys.root_maxbytes",
}  # fmt: skip


def test_notes_are_of_what_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    assert run("host/files/note.sh", str(folder)).returncode == 0
    absent = (folder / "absent").read_text().splitlines()
    assert absent
    assert [each for each in absent if Path(each).exists()] == []
    assert (folder / "noted").exists()
    noted = dict(line.split(" = ") for line in (folder / "sysctls").read_text().splitlines())
    for name, value in noted.items():
        assert Path("/proc/sys", *name.split(".")).read_text().split() == value.split()
    assert {*OF_A_KUBELET, "net.ipv4.conf.all.route_localnet"} < set(noted)
    assert list(noted)[:2] == ["net.ipv4.ip_forward", "net.ipv4.conf.all.accept_redirects"]
    assert folder.stat().st_mode & 0o777 == 0o700


def test_units_of_the_kubelet_folders_without_anything_and_keys_are_noted(tmp_path: Path) -> None:
    """By a copy of the script that has its places below `tmp_path`."""
    text, folder = (ROLES / "host/files/note.sh").read_text(), tmp_path / "notes"
    for place in ("/etc/systemd", "/var/lib"):
        assert f" {place}" in text
        text = text.replace(f" {place}", f" {tmp_path}{place}")
    (tmp_path / "note.sh").write_text(text)
    unit = tmp_path / "etc/systemd/system/kubelet.service.d/10-kubeadm.conf"
    for each in (
        unit.parent,
        tmp_path / "var/lib/containerd/lost+found",
        tmp_path / "var/lib/etcd/member",
    ):
        each.mkdir(parents=True)
    unit.write_text("theirs")
    placed.put(tmp_path, "path/rpm", "#!/bin/sh\necho gpg-pubkey-fd431d51-4ae0493b\n")
    path = {"PATH": f"{tmp_path}/path:/usr/sbin:/usr/bin:/sbin:/bin"}
    done = processes.run(["sh", f"{tmp_path}/note.sh", str(folder)], check=False, env=path)
    assert done.returncode == 0, done.stderr
    assert Path(f"{folder}/before{unit}").read_text() == "theirs"
    assert (folder / "empty").read_text().splitlines()[:1] == [f"{tmp_path}/var/lib/containerd"]
    assert f"{tmp_path}/var/lib/etcd" not in (folder / "empty").read_text()
    assert (folder / "keys").read_text() == "gpg-pubkey-fd431d51-4ae0493b\n"


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
