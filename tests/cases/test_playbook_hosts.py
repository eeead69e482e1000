"""Which hosts a playbook has: whoever is lost ends all of it, and nobody waits for it.

The plays are those of the project. Their roles write down here who had them, and ssh is played: it
does on this machine what it is asked to, until the host is lost.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import CommandError, HarnessError, NeedError
from harness.linux import processes
from harness.targets.vm import ansible
from harness.targets.vm.inventory import program
from tests.cases.placed import put

CONTROL_PLANES, WORKERS = {"alpha", "beta", "gamma"}, {"delta", "epsilon"}
ALL, FIRST = CONTROL_PLANES | WORKERS, {"alpha"}
ROLES = ("host", "control_plane", "network", "worker", "storage", "ready", "upgrade", "reset")
SSH = """#!/bin/sh
for word; do host=$said; said=$word; done
sh -c "$said"
code=$?
read -r name role <FOLDER/lost
[ "$host" = "$name" ] && grep -qsx "$name $role" FOLDER/done && exit 255
exit $code
"""
WRITE = """#!/bin/sh
echo "$1 $2" >>FOLDER/done
[ "$(cat FOLDER/fails)" != "$1 $2" ]
"""


@dataclass(frozen=True)
class Playbooks:
    """Copies of the plays in `folder`, and roles that write down who had them."""

    folder: Path

    def put(self, name: str, text: str) -> None:
        put(self.folder, name, text)

    def inventory(self, *loose: str, **groups: set[str]) -> None:
        common = {
            "ansible_connection": "ssh", "ansible_ssh_executable": f"{self.folder}/ssh",
            "ansible_become": False,
            "ansible_python_interpreter": str(Path(sys.executable).resolve()),
        }  # fmt: skip
        children = {name: {"hosts": dict.fromkeys(sorted(of))} for name, of in groups.items()}
        told = {"vars": common, "hosts": dict.fromkeys(loose), "children": children}
        self.put("hosts.json", json.dumps({"all": told}))

    def play(self, name: str, *, lost: str = "", fails: str = "") -> HarnessError | None:
        """Its error, where a host was lost in a role, or one failed: as NAME ROLE."""
        self.put("lost", f"{lost}\n")
        self.put("fails", fails)
        book, log = str(self.folder / name), self.folder / "log"
        try:
            ansible.play(book, self.folder / "hosts.json", {}, log, print)
        except HarnessError as error:
            return error
        finally:
            print(log.read_text()[-6000:])
        return None

    def play_for(self, limit: str, *, lost: str = "") -> int:
        """The exit code of site.yml for some of the hosts, as somebody runs it by hand."""
        self.put("lost", f"{lost}\n")
        self.put("fails", "")
        argv = [program("ansible-playbook"), f"--inventory={self.folder}/hosts.json"]
        argv += [f"--limit={limit}", str(self.folder / "site.yml")]
        env = {
            "LC_ALL": "C.UTF-8", "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
        }  # fmt: skip
        done = processes.run(argv, check=False, cwd=self.folder, env=env, timeout=300)
        print(done.stdout[-6000:], done.stderr)
        return done.returncode

    @property
    def had(self) -> dict[str, set[str]]:
        """Who had each role."""
        found: dict[str, set[str]] = {}
        for line in (self.folder / "done").read_text().splitlines():
            host, role = line.split()
            found.setdefault(role, set()).add(host)
        return found

    @property
    def marks(self) -> list[set[str]]:
        """Who was claimed, for longer, and who was given back, since the last call."""
        file = self.folder / "marks"
        lines = [line.split() for line in file.read_text().splitlines()]
        file.unlink()
        return [{who for who, what in lines if what == part} for part in ("claim", "renew", "free")]


@pytest.fixture
def playbooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Playbooks:
    made = Playbooks(tmp_path)
    monkeypatch.setenv("ANSIBLE_GATHERING", "explicit")  # what hosts are is not asked
    made.put("ssh", SSH)
    made.put("write", WRITE)
    for name in ("site.yml", "parts.yml", "renew.yml", "upgrade.yml", "reset.yml", "ended.yml"):
        shutil.copy(ansible.PLAYBOOKS / name, tmp_path)
    monkeypatch.setattr(ansible, "PLAYBOOKS", tmp_path)  # one is called where others end
    for role in ROLES:
        words = f"{tmp_path}/write {{{{ inventory_hostname }}}} {role}"
        task = {"name": "Write it down", "ansible.builtin.command": words}
        made.put(f"roles/{role}/tasks/main.yml", json.dumps([task]))
    looks = {"name": "Look, and do nothing", "ansible.builtin.set_fact": {"looked": True}}
    for part in ("refuse", "images"):
        made.put(f"roles/upgrade/tasks/{part}.yml", json.dumps([looks]))
    for part in ("claim", "renew", "free"):  # of all hosts, before, between and after the roles
        words = f"{tmp_path}/mark {{{{ inventory_hostname }}}} {part}"
        marks = {"name": "Mark it", "ansible.builtin.command": words, "changed_when": False}
        made.put(f"roles/cluster/tasks/{part}.yml", json.dumps([marks]))
    made.put("mark", '#!/bin/sh\necho "$1 $2" >>FOLDER/marks\n')
    words = f"{tmp_path}/write {{{{ inventory_hostname }}}} kubeconfig"
    fetches = {"name": "Fetch it", "ansible.builtin.command": words}
    made.put("roles/control_plane/tasks/kubeconfig.yml", json.dumps([fetches]))
    made.inventory(control_plane=CONTROL_PLANES, worker=WORKERS)
    return made


SITE = {
    "host": ALL, "control_plane": CONTROL_PLANES, "network": FIRST, "worker": WORKERS,
    "storage": FIRST, "ready": FIRST,
}  # fmt: skip


def until(role: str, hosts: set[str]) -> dict[str, set[str]]:
    """What is done of it up to a role, which only these hosts had."""
    names = list(SITE)
    return {**{name: SITE[name] for name in names[: names.index(role)]}, role: hosts}


def test_all_of_it_is_done_where_nobody_is_lost(playbooks: Playbooks) -> None:
    assert playbooks.play("site.yml") is None
    assert playbooks.had == SITE
    assert playbooks.marks == [ALL, ALL, ALL]
    assert playbooks.play("upgrade.yml") is None
    assert playbooks.had == {**SITE, "upgrade": ALL, "kubeconfig": FIRST}
    assert playbooks.marks == [ALL, ALL, ALL]


@pytest.mark.parametrize(
    ("lost", "had"),
    [
        ("epsilon host", until("host", ALL)),
        ("beta control_plane", until("control_plane", {"alpha", "beta"})),
        ("alpha network", until("network", FIRST)),
        ("delta worker", until("worker", WORKERS)),
    ],
)
def test_a_host_that_is_lost_ends_what_makes_a_cluster(
    playbooks: Playbooks, lost: str, had: dict[str, set[str]]
) -> None:
    error = playbooks.play("site.yml", lost=lost)
    assert isinstance(error, NeedError)
    assert error.what == f"{lost.split()[0]} cannot be reached."
    assert "as well" not in error.why
    assert playbooks.had == had
    claimed, _, given_back = playbooks.marks
    assert (claimed, given_back) == (ALL, ALL)


def test_a_worker_is_added_by_itself_and_those_that_are_left_out_are_not_waited_for(
    playbooks: Playbooks,
) -> None:
    limit = "control_plane,epsilon"
    had = {**SITE, "host": CONTROL_PLANES | {"epsilon"}, "worker": {"epsilon"}}
    assert playbooks.play_for(limit) == 0
    assert playbooks.had == had
    (playbooks.folder / "done").unlink()
    assert playbooks.play_for(limit, lost="epsilon worker") != 0
    assert playbooks.had == {each: had[each] for each in had if each not in ("storage", "ready")}


@pytest.mark.parametrize(
    ("lost", "had"),
    [
        ("beta", {"upgrade": {"alpha", "beta"}}),
        ("delta", {"upgrade": CONTROL_PLANES | {"delta"}, "kubeconfig": FIRST}),
    ],
)
def test_a_host_that_is_lost_ends_an_upgrade(
    playbooks: Playbooks, lost: str, had: dict[str, set[str]]
) -> None:
    error = playbooks.play("upgrade.yml", lost=f"{lost} upgrade")
    assert isinstance(error, NeedError)
    assert error.what == f"{lost} cannot be reached."
    assert playbooks.had == had


@pytest.mark.parametrize(
    ("fails", "had"),
    [
        ("beta control_plane", until("control_plane", {"alpha", "beta"})),
        ("delta worker", until("worker", WORKERS)),
    ],
)
def test_a_host_on_which_something_fails_ends_it_as_well(
    playbooks: Playbooks, fails: str, had: dict[str, set[str]]
) -> None:
    error = playbooks.play("site.yml", fails=fails)
    assert isinstance(error, CommandError)
    assert error.what == f"`Write it down` failed on {fails.split()[0]}."
    assert playbooks.had == had


def test_a_cluster_is_taken_off_its_own_hosts_alone(playbooks: Playbooks) -> None:
    """Also where no control plane is left; only where nothing is said of parts they are all."""
    playbooks.inventory("load", worker={"delta"})
    assert playbooks.play("reset.yml") is None
    assert playbooks.had == {"reset": {"delta"}}
    assert playbooks.marks == [{"delta"}, set(), {"delta"}]
    playbooks.inventory("load", "alpha")
    assert playbooks.play("reset.yml") is None
    assert playbooks.had == {"reset": {"delta", "load", "alpha"}}
