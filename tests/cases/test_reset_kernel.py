"""What a cluster leaves in the kernel of its host, and the script that takes it off, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.placed import put
from tests.cases.test_reset_script import CALLED, NOTHING, removing


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of notes, for a host whose programs do nothing."""
    for name in CALLED:
        put(tmp_path, f"path/{name}", NOTHING)
    monkeypatch.setenv("PATH", f"{tmp_path}/path:/usr/bin:/bin")
    for name in ("absent", "services", "modules", "sysctls", "noted"):
        put(tmp_path, f"notes/{name}", "")
    return tmp_path / "notes"


BARE = """*mangle
:PREROUTING ACCEPT [7:1]
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
COMMIT
*filter
:INPUT ACCEPT [0:0]
:OF_A_FIREWALL - [0:0]
COMMIT
*raw
:PREROUTING DROP [0:0]
COMMIT
"""


def telling(tmp_path: Path, *names: str) -> Path:
    """Where the calls of these programs are written."""
    for name in names:
        put(tmp_path, f"path/{name}", f'#!/bin/sh\necho "{name} $*" >>FOLDER/said\n')
    (tmp_path / "said").touch()
    return tmp_path / "said"


def test_tables_that_came_with_the_cluster_go_when_nothing_is_in_them(
    tmp_path: Path, bare: Path
) -> None:
    """Packets would go by their hooks, and connections be tracked, on a host as it was."""
    said = telling(tmp_path, "iptables", "ip6tables")
    (tmp_path / "rules").write_text(BARE)
    for name in ("iptables-save", "ip6tables-save"):
        put(tmp_path, f"path/{name}", "#!/bin/sh\nexec cat FOLDER/rules\n")
    (bare / "tables.iptables").write_text("mangle\n")
    assert removing(tmp_path, bare) == []
    assert said.read_text().splitlines() == [
        "iptables -t nat -X", "ip6tables -t mangle -X", "ip6tables -t nat -X",
    ]  # fmt: skip


def test_what_pods_leave_of_a_kernel_is_taken_off(tmp_path: Path, bare: Path) -> None:
    """Units of their cgroups, containerd's profile of AppArmor, and options of the cgroups."""
    said = telling(tmp_path, "systemctl", "mount")
    profiles = tmp_path / "host/sys/kernel/security/apparmor/profiles"
    profiles.parent.mkdir(parents=True)
    profiles.write_text("lsb_release (enforce)\ncri-containerd.apparmor.d (enforce)\n")
    (bare / "profiles").write_text("lsb_release\n")
    (bare / "cgroup2").write_text("rw,nsdelegate,memory_recursiveprot\n")
    assert removing(tmp_path, bare) == []
    told = said.read_text().splitlines()
    assert "systemctl stop kubepods.slice" in told
    assert "mount -o remount,rw,nsdelegate,memory_recursiveprot /sys/fs/cgroup" in told
    assert (profiles.parent / ".remove").read_text() == "cri-containerd.apparmor.d"


def test_a_profile_that_was_there_stays(tmp_path: Path, bare: Path) -> None:
    profiles = tmp_path / "host/sys/kernel/security/apparmor/profiles"
    profiles.parent.mkdir(parents=True)
    profiles.write_text("cri-containerd.apparmor.d (enforce)\n")
    (bare / "profiles").write_text("cri-containerd.apparmor.d\n")
    assert removing(tmp_path, bare) == []
    assert not (profiles.parent / ".remove").exists()
