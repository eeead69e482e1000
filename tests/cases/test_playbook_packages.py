"""Kubernetes from its repository of packages, by the playbook itself: whose key signs it decides.

The host is this machine with a folder of its own as /etc/apt, in which programs stand in for those
of packages. gpg is real, and the key that of a test.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError, NeedError
from harness.linux import processes
from harness.linux.processes import Completed
from harness.targets.vm import ansible
from tests.cases import apart
from tests.cases.placed import put
from tests.cases.test_playbook_refusals import FACTS, ROCKY

ROLES = ansible.PLAYBOOKS / "roles"
KEY = """-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawnq2xYJKwYBBAHaRw8BAQdAZNhcMFbsRo3mj+W27HmIB2wIGvi9j7cmSXMu
LOw5i9O0EnBhY2thZ2VzIG9mIGEgdGVzdIiQBBMWCAA4FiEEXdSlMiF5iJNi0kwQ
hXY85Ykdv6EFAmsJ6tsCGwMFCwkIBwIGFQoJCAsCBBYCAwECHgECF4AACgkQhXY8
5Ykdv6E8gwEA8uGBbgeYumjoDsGvbcQ3cCP3SOtPJH0+EQ2JgXE0oMAA/jXe+LrD
NkN4fc9Fky+OUQRnHMB9+qTnZnaPacw9rG0C
=8YRQ
-----END PGP PUBLIC KEY BLOCK-----
"""
FINGERPRINT = "5DD4A5322179889362D24C1085763CE5891DBFA1"
ENTER = """#!/bin/sh
exec unshare --mount sh -c 'mount --bind FOLDER/apt /etc/apt && exec /bin/sh "$@"' sh "$@"
"""
PROGRAMS = {
    "apt-get": """
names=
for word; do case $word in -* | DPkg* | install | update) ;; *) names="$names $word" ;; esac; done
case " $* " in
*' --simulate '*) for name in $names; do echo "Inst $name (1.0 a repository)"; done ;;
*' install '*) echo "install$names" >>FOLDER/done; printf 'ii  %s\\n' $names >>FOLDER/installed ;;
esac""",
    "apt-mark": """
case $1 in showhold) sed -n 's/^hi  //p' FOLDER/installed; exit ;; esac
[ ! -e FOLDER/breaks ] || exit 1
echo "$*" >>FOLDER/done
shift
for name; do sed -i "s/^ii  $name$/hi  $name/" FOLDER/installed; done""",
    "dpkg": "exit 0",
    "dpkg-query": "cat FOLDER/installed",
}
TOOLS = ["containerd", "runc", "conntrack", "iptables", "socat", "ethtool"]
OURS = ["kubeadm", "kubectl", "kubelet"]
NEWER = {"cluster_source": "packages", "host_wanted": ["kubelet"], "host_version": "1.35"}

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to mount"),
    pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed"),
    pytest.mark.skipif(not Path("/etc/apt").is_dir(), reason="hosts are a Debian"),
]


@dataclass(frozen=True)
class Host:
    """The host, whose programs, notes and /etc/apt are in `folder`."""

    folder: Path

    def put(self, name: str, text: str) -> None:
        put(self.folder, name, text)

    def play(
        self,
        *,
        tasks_from: str = "packages",
        facts: Mapping[str, str] = FACTS,
        told: Mapping[str, str] | None = None,
        **more: Any,
    ) -> int:
        """How many tasks changed something; `told` are variables of another host than this."""
        play = {
            "hosts": "control_plane", "gather_facts": False,
            "environment": {
                "PATH": f"{self.folder}/there:/usr/sbin:/usr/bin:/sbin:/bin",
                "GNUPGHOME": f"{self.folder}/gnupg",
            },
            "tasks": [
                {"ansible.builtin.set_fact": {**facts, "cacheable": True}},
                {"ansible.builtin.include_role": {"name": "host", "tasks_from": tasks_from}},
            ],
        }  # fmt: skip
        host = {
            "ansible_connection": "local", "cluster_state": f"{self.folder}/state",
            "ansible_shell_executable": f"{self.folder}/sh",
            "ansible_remote_tmp": f"{self.folder}/tmp",
            "ansible_python_interpreter": str(Path(sys.executable).resolve()), **(told or {}),
        }  # fmt: skip
        book, inventory = self.folder / "book.json", self.folder / "hosts.json"
        book.write_text(json.dumps([play]))
        inventory.write_text(json.dumps({"control_plane": {"hosts": {"alpha": host}}}))
        given = {"host_repository": f"file://{self.folder}/repository", **more}
        log = self.folder / "log"
        try:
            return ansible.play(str(book), inventory, given, log, print)["alpha"].changed
        finally:
            print(log.read_text()[-6000:])

    @property
    def done(self) -> list[str]:
        """What was done with packages, in its order."""
        return (self.folder / "done").read_text().splitlines()

    @property
    def sources(self) -> Path:
        """Where the repository is named."""
        return self.folder / "apt/sources.list.d/harness-kubernetes.list"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    done = processes.run(["unshare", "--mount", "true"], check=False)
    if done.returncode:
        pytest.skip(f"no namespaces here: {done.stderr.strip()}")
    monkeypatch.setenv("ANSIBLE_ROLES_PATH", str(ROLES))
    made = Host(tmp_path)
    for name in ("state", "tmp", "gnupg", "apt/sources.list.d"):
        (tmp_path / name).mkdir(parents=True, mode=0o700)
    made.put("sh", ENTER)
    made.put("installed", "ii  apt\n")
    for name, text in PROGRAMS.items():
        made.put(f"there/{name}", f"#!/bin/sh\n{text}\n")
    made.put("repository/deb/Release.key", KEY)
    return made


def test_nothing_is_done_where_the_host_would_be_this_machine(host: Host) -> None:
    """Its own /etc/apt would be written into."""
    shutil.rmtree(host.folder / "apt")
    done = processes.run([str(host.folder / "sh"), "-c", "echo done"], check=False)
    assert done.returncode
    assert done.stdout == ""


def test_packages_are_installed_where_the_key_is_the_one_that_is_written_down(host: Host) -> None:
    assert host.play(host_kubernetes_key=FINGERPRINT) > 0
    assert host.done == [
        "install ca-certificates gnupg", f"install {' '.join(TOOLS + OURS)}",
        f"hold {' '.join(OURS)}",
    ]  # fmt: skip
    signed = "signed-by=/etc/apt/keyrings/harness-kubernetes.asc"
    repository = f"file://{host.folder}/repository"
    assert host.sources.read_text() == f"deb [{signed}] {repository}/deb/ /\n"
    assert (host.folder / "apt/keyrings/harness-kubernetes.asc").read_text() == KEY
    noted = (host.folder / "state/packages").read_text().split()
    assert noted == ["ca-certificates", "gnupg", *TOOLS, *OURS]
    assert (host.folder / "state/held").read_text().split() == OURS
    assert f"hi  {OURS[0]}\n" in (host.folder / "installed").read_text()
    assert host.play(host_kubernetes_key=FINGERPRINT) == 0


def test_packages_that_were_installed_by_an_interrupted_run_are_held_by_the_next(
    host: Host,
) -> None:
    host.put("breaks", "")
    with pytest.raises(HarnessError):
        host.play(host_kubernetes_key=FINGERPRINT)
    (host.folder / "breaks").unlink()
    (host.folder / "done").unlink()
    assert host.play(host_kubernetes_key=FINGERPRINT) == 1
    assert host.done == [f"hold {' '.join(OURS)}"]
    assert host.play(host_kubernetes_key=FINGERPRINT) == 0


def test_one_that_is_missing_is_installed_beside_those_that_are_held(host: Host) -> None:
    """To bring those to a newer version in passing is what their hold forbids."""
    lines = [f"hi  {name}" for name in OURS] + [f"ii  {name}" for name in TOOLS[1:]]
    host.put("installed", "\n".join([*lines, ""]))
    assert host.play(host_kubernetes_key=FINGERPRINT) > 0
    assert host.done == ["install ca-certificates gnupg", f"install {TOOLS[0]}"]


def test_a_repository_that_another_key_signs_is_refused(host: Host) -> None:
    """Nothing of it is named, or installed."""
    with pytest.raises(NeedError, match="is signed by another key than that of") as caught:
        host.play()
    assert "a proxy, or a mirror" in caught.value.next_step
    assert host.done == ["install ca-certificates gnupg"]
    assert not host.sources.exists()


LOCKED = """
echo >>FOLDER/asked
[ "$(wc -l <FOLDER/asked)" -gt COUNT ] || { echo 'SAID' >&2; exit 2; }
"""
DPKG = "dpkg: error: dpkg frontend lock was locked by another process with pid 7"
LISTS = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)"


def installing(host: Host, program: str, said: str, count: int) -> Completed:
    """The script, while a program says so often that somebody holds a lock; nobody sleeps."""
    text = LOCKED.replace("SAID", said).replace("COUNT", str(count))
    host.put(f"locked/{program}", f'#!/bin/sh\n{text}exec FOLDER/there/{program} "$@"\n')
    host.put("locked/sleep", '#!/bin/sh\necho "$1" >>FOLDER/slept\n')
    argv = ["sh", str(ROLES / "host/files/install.sh"), f"{host.folder}/state", "socat"]
    path = f"{host.folder}/locked:{host.folder}/there:/usr/bin:/bin"
    return processes.run(argv, check=False, env={"PATH": path})


@pytest.mark.parametrize(("program", "said"), [("dpkg", DPKG), ("apt-get", LISTS)])
def test_who_holds_a_lock_is_waited_for(host: Host, program: str, said: str) -> None:
    done = installing(host, program, said, 2)
    assert done.returncode == 0, done.stderr
    assert (host.folder / "slept").read_text().split() == ["2", "2"]
    assert host.done == ["install socat"]
    assert (host.folder / "state/packages").read_text() == "socat\n"


def test_a_lock_is_waited_for_no_longer_than_apt_waits(host: Host) -> None:
    done = installing(host, "dpkg", DPKG, 1000)
    assert done.returncode
    assert "locked by another process with pid 7" in done.stderr
    waited = [int(each) for each in (host.folder / "slept").read_text().split()]
    assert 290 <= sum(waited) <= 300
    assert not (host.folder / "done").exists()


def test_what_is_no_lock_is_told_at_once(host: Host) -> None:
    done = installing(host, "dpkg", "dpkg: error processing package socat", 1000)
    assert done.returncode
    assert "error processing package socat" in done.stderr
    assert not (host.folder / "slept").exists()


def test_a_second_key_beside_it_is_refused_as_well(host: Host) -> None:
    told = "fpr:::::::::{}:".format
    lines = "\\n".join(("pub:", told(FINGERPRINT), "pub:", told("0" * 40)))
    host.put("there/gpg", f"#!/bin/sh\nprintf '{lines}\\n'\n")
    with pytest.raises(NeedError, match="is signed by another key than that of"):
        host.play(host_kubernetes_key=FINGERPRINT)
    assert not host.sources.exists()


EXCLUDED = "exclude = kubeadm kubectl kubelet\n"
RPM = """#!/bin/sh
echo socat
[ ! -e FOLDER/done ] || echo kubelet
"""


def test_on_rhel_the_repository_keeps_its_packages_from_the_distributions_upgrades(
    host: Host, tmp_path: Path
) -> None:
    """As an upgrade writes it; the programs that install are those of a Debian here."""
    told = apart.host(tmp_path, "rocky", {})
    (tmp_path / "rocky/etc/yum.repos.d").mkdir(exist_ok=True)
    assert host.play(tasks_from="newer", facts={**FACTS, **ROCKY}, told=told, **NEWER) > 0
    written = tmp_path / "rocky/etc/yum.repos.d/harness-kubernetes.repo"
    assert EXCLUDED in written.read_text()


def test_what_is_excluded_is_installed_from_here(host: Host) -> None:
    """By the script, on a host that has dnf and no apt-get; what came is noted."""
    for name in ("sh", "cat", "comm", "echo", "grep", "rm", "sort"):
        place = host.folder / "rhel" / name
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(shutil.which(name) or name)
    host.put("rhel/dnf", '#!/bin/sh\necho "$*" >>FOLDER/done\n')
    host.put("rhel/rpm", RPM)
    argv = ["sh", str(ROLES / "host/files/install.sh"), f"{host.folder}/state", "kubelet"]
    done = processes.run(argv, check=False, env={"PATH": f"{host.folder}/rhel"})
    assert done.returncode == 0, done.stderr
    (line,) = host.done
    assert "--disableexcludes=harness-kubernetes" in line.split()
    assert line.endswith(" kubelet")
    assert (host.folder / "state/packages").read_text() == "kubelet\n"
