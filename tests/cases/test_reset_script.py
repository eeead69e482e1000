"""The script that takes a cluster off a host: what it puts back, and what it leaves alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.linux import processes
from tests.cases.test_host_scripts import ROLES

NOTHING = """#!/bin/sh
case "$(basename "$0") $*" in
"dpkg-query --show --showformat \\${db:Status-Abbrev} containerd") printf ii;;
esac
exit 0
"""
CALLED = ("kubeadm", "systemctl", "ip", "iptables-save", "ip6tables-save", "ctr", "dpkg",
          "apt-get", "dpkg-query", "apt-mark", "modprobe", "sysctl", "rpm")  # fmt: skip


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


COMMENTED = '-p udp --dport 8472 -m comment --comment "ALLOW-CILIUM-VXLAN" -j ACCEPT'
OF_MANY = f"""*filter
:INPUT ACCEPT [0:0]
:CILIUM_INPUT - [0:0]
:OLD_CILIUM_INPUT - [0:0]
-A INPUT -m comment --comment "cilium-feeder: CILIUM_INPUT" -j CILIUM_INPUT
-A INPUT {COMMENTED}
-A CILIUM_INPUT -m mark --mark 0x200/0xf00 -j ACCEPT
COMMIT
"""


def ruled(tmp_path: Path) -> Path:
    """Where the rules are written that are set again on a host that has OF_MANY."""
    (tmp_path / "rules").write_text(OF_MANY)
    saves, restores = tmp_path / "path/iptables-save", tmp_path / "path/iptables-restore"
    saves.write_text(f"#!/bin/sh\nexec cat {tmp_path}/rules\n")
    restores.write_text(f"#!/bin/sh\nexec cat >{tmp_path}/restored\n")
    restores.chmod(0o755)
    return tmp_path / "restored"


def resetting(tmp_path: Path) -> Path:
    """A copy of the script that knows no path of this host, but those below `tmp_path`."""
    text = (ROLES / "reset/files/reset.sh").read_text()
    for place in ("/etc/", "/usr/local/bin", "/opt/cni", "/sys/fs/bpf", "/sys/kernel/security"):
        text = text.replace(f" {place}", f" {tmp_path}/host{place}")
        text = text.replace(f"={place}", f"={tmp_path}/host{place}")
    script = tmp_path / "reset.sh"
    script.write_text(text)
    return script


def removing(tmp_path: Path, notes: Path) -> list[str]:
    """What a reset could not remove."""
    script = resetting(tmp_path)
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
    tmp_path.chmod(0o1777)
    above = [(each, each.stat().st_mode) for each in (*tmp_path.parents, tmp_path)]
    assert removing(tmp_path, bare) == []
    assert theirs.read_bytes() == b"theirs"
    assert [(each, each.stat().st_mode) for each, _ in above] == above
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


def test_a_reset_waits_for_who_holds_the_lock_of_packages(tmp_path: Path, bare: Path) -> None:
    """Else all of them would stay, and the notes of them go."""
    said = f'#!/bin/sh\necho "$(basename "$0") $*" >>{tmp_path}/said\n'
    for name in ("apt-get", "dpkg"):
        (tmp_path / "path" / name).write_text(said)
    (bare / "packages").write_text("containerd\n")
    removing(tmp_path, bare)
    assert (tmp_path / "said").read_text().splitlines() == [
        "apt-get check --quiet=2 -o DPkg::Lock::Timeout=300", "dpkg --purge containerd",
    ]  # fmt: skip


def test_a_reset_takes_back_the_hold_of_packages_that_stay(tmp_path: Path, bare: Path) -> None:
    """They were there before, and their hold is ours."""
    (tmp_path / "path/apt-mark").write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/said\n')
    (bare / "held").write_text("kubelet\nkubeadm\nkubelet\n")
    assert removing(tmp_path, bare) == []
    said = (tmp_path / "said").read_text().splitlines()
    assert said == ["unhold kubeadm", "unhold kubelet"]


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


WITH_CILIUM = """
set -e
script=$1 notes=$2 host=$3
PATH=$PATH:/usr/sbin:/sbin
ip link set lo up
mkdir -p $host
cd $host
mkdir -p sys/fs/bpf run/cilium/cgroupv2 etc/cni/net.d etc/sysctl.d opt/cni/bin
mount -t tmpfs none sys/fs/bpf
mkdir -p sys/fs/bpf/cilium/devices sys/fs/bpf/tc/globals
touch sys/fs/bpf/cilium/devices/link sys/fs/bpf/tc/globals/cilium_calls sys/fs/bpf/maps.debug
mount -t tmpfs none run/cilium/cgroupv2
touch etc/cni/net.d/05-cilium.conflist etc/cni/net.d/87-theirs.conflist
touch etc/sysctl.d/99-zzz-override_cilium.conf opt/cni/bin/cilium-cni
ip link add cilium_host type veth peer name cilium_net
ip link add lxc0123456789ab type veth peer name lxc_health
ip link add lxcbr0 type veth peer name theirs
ip rule add pref 100 lookup local
ip rule delete pref 0
ip rule add pref 9 fwmark 0x200/0xf00 lookup 2004
ip route add local 0.0.0.0/0 dev lo table 2004
sysctl --quiet --write net.ipv4.conf.all.rp_filter=0
sh "$script" remove "$notes"
ip -o link show | sed 's/^[0-9]*: \\([^:@]*\\).*/link \\1/'
ip -4 rule show
ip -4 route show table 2004 2>/dev/null || true
cat /proc/sys/net/ipv4/conf/all/rp_filter
find $host -type f
! mountpoint -q $host/sys/fs/bpf || echo mounted
"""
TC = """#!/bin/sh
case "$*" in
"filter show dev theirs ingress")
    said='filter protocol all pref 1 bpf chain 0'
    [ -e LOG ] || printf '%s \\n' "$said" "$said handle 0x1 cil_from_netdev-theirs direct-action";;
*delete*) echo "$*" >>LOG;;
esac
"""
RULES = """#!/bin/sh
cat <<END
*filter
:CILIUM_INPUT - [0:0]
-A INPUT -m comment --comment "cilium-feeder: CILIUM_INPUT" -j CILIUM_INPUT
-A INPUT -i theirs -j ACCEPT
COMMIT
END
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="root is needed for a network of its own")
def test_a_reset_takes_cilium_off_and_leaves_what_is_called_alike(
    tmp_path: Path, bare: Path
) -> None:
    """In a network namespace, where interfaces, rules and routes are real; filters are played."""
    host, path = tmp_path / "host", tmp_path / "path"
    (bare / "absent").write_text(f"{host}/run/cilium\n")
    (bare / "bpffs").touch()
    (bare / "cilium").write_text("net.ipv4.conf.all.rp_filter = 1\n")
    for name in ("ip", "sysctl"):
        (path / name).unlink()
    texts = {"tc": TC, "iptables-save": RULES, "iptables-restore": "#!/bin/sh\ncat >LOG.rules\n"}
    for name, text in texts.items():
        (path / name).write_text(text.replace("LOG", f"{tmp_path}/log"))
        (path / name).chmod(0o755)
    words = (WITH_CILIUM, "sh", str(resetting(tmp_path)), str(bare), str(host))
    done = processes.run(["unshare", "--net", "--mount", "sh", "-c", *words], check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "link lo", "link theirs", "link lxcbr0",
        "0:\tfrom all lookup local", "32766:\tfrom all lookup main",
        "32767:\tfrom all lookup default", "1", f"{host}/etc/cni/net.d/87-theirs.conflist",
    ]  # fmt: skip
    assert (tmp_path / "log").read_text().splitlines() == [
        "filter delete dev theirs ingress protocol all pref 1 handle 0x1 bpf",
        "qdisc delete dev theirs clsact",
    ]
    assert (tmp_path / "log.rules").read_text() == "*filter\n-A INPUT -i theirs -j ACCEPT\nCOMMIT\n"
    assert not bare.exists()


def test_what_is_called_like_ciliums_stays_without_a_note_of_it(tmp_path: Path, bare: Path) -> None:
    pinned = tmp_path / "host/sys/fs/bpf/cilium"
    pinned.mkdir(parents=True)
    conflist = tmp_path / "host/etc/cni/net.d/05-cilium.conflist"
    conflist.parent.mkdir(parents=True)
    conflist.touch()
    restored = ruled(tmp_path)
    assert removing(tmp_path, bare) == []
    assert pinned.is_dir()
    assert conflist.exists()
    assert not restored.exists()  # nothing of it was anybody's of ours


def test_of_rules_those_of_ciliums_chains_go_and_what_names_it_stays(
    tmp_path: Path, bare: Path
) -> None:
    (bare / "cilium").touch()
    restored = ruled(tmp_path)
    assert removing(tmp_path, bare) == []
    assert restored.read_text().splitlines() == [
        "*filter", ":INPUT ACCEPT [0:0]", f"-A INPUT {COMMENTED}", "COMMIT",
    ]  # fmt: skip


def test_a_folder_that_was_empty_is_empty_again(tmp_path: Path, bare: Path) -> None:
    """A disk of its own, as for images: what is of its file system stays."""
    disk = tmp_path / "disk"
    for name in ("lost+found", "io.containerd.content", "tmpmounts"):
        (disk / name).mkdir(parents=True)
    (bare / "empty").write_text(f"{disk}\n{tmp_path}/never\n")
    done = processes.run(["sh", str(resetting(tmp_path)), "plan", str(bare)], check=False)
    assert sorted(done.stdout.splitlines()) == [
        f"{disk}/io.containerd.content",
        f"{disk}/tmpmounts",
    ]
    assert removing(tmp_path, bare) == []
    assert [each.name for each in disk.iterdir()] == ["lost+found"]


def test_what_was_empty_is_left_to_a_package_that_stays(tmp_path: Path, bare: Path) -> None:
    own = tmp_path / "containerd"
    (own / "content").mkdir(parents=True)
    (bare / "empty").write_text(f"{own}\n")
    (bare / "packages").write_text("containerd\n")
    assert removing(tmp_path, bare) == ["left: package containerd", f"left: {own}/content"]
    assert (own / "content").is_dir()


def test_the_kubelets_own_unit_comes_back_and_ours_goes(tmp_path: Path, bare: Path) -> None:
    """Its folder was there, with a file of somebody's."""
    units = tmp_path / "host/etc/systemd/system"
    ours, theirs = units / "kubelet.service", units / "kubelet.service.d/theirs.conf"
    kept = Path(f"{bare}/before{ours}")
    kept.parent.mkdir(parents=True)
    kept.write_text("theirs")
    theirs.parent.mkdir(parents=True)
    for each in (ours, theirs, theirs.with_name("10-kubeadm.conf")):
        each.write_text("ours")
    (bare / "taken").touch()
    assert removing(tmp_path, bare) == []
    assert ours.read_text() == "theirs"
    assert list(theirs.parent.iterdir()) == [theirs]
