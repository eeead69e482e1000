"""Hosts are claimed by the playbook itself: two that are at them at once end nothing of each other.

That site.yml, upgrade.yml and reset.yml do it is in `test_playbook_hosts`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import NeedError
from harness.targets.vm import ansible

OWN, OTHER = "root@here (--name one)", "root@there (--name one)"
HOSTS = ("alpha", "beta")


@dataclass(frozen=True)
class Hosts:
    """Two hosts, of which `folder` has what is written there."""

    folder: Path

    def play(self, part: str, owner: str = OWN) -> None:
        """Do a part of the role on both."""
        role = {"name": "cluster", "tasks_from": part}
        tasks = [{"ansible.builtin.include_role": role}]
        play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
        common = {
            "ansible_connection": "local", "cluster_owner": owner,
            "cluster_busy": f"{self.folder}/{{{{ inventory_hostname }}}}",
            "ansible_python_interpreter": str(Path(sys.executable).resolve()),
        }  # fmt: skip
        book, inventory = self.folder / "book.json", self.folder / "hosts.json"
        book.write_text(json.dumps([play]))
        told = {"vars": common, "hosts": dict.fromkeys(HOSTS)}
        inventory.write_text(json.dumps({"all": told}))
        log = self.folder / "log"
        try:
            recap = ansible.play(str(book), inventory, {}, log, print)
        finally:
            print(log.read_text()[-6000:])
        assert [counts.changed for counts in recap.values()] == [0, 0]

    @property
    def owners(self) -> list[str]:
        """Who is at each, or nobody."""
        files = [self.folder / name for name in HOSTS]
        return [file.read_text().strip() if file.exists() else "" for file in files]


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    monkeypatch.setenv("ANSIBLE_ROLES_PATH", str(ansible.PLAYBOOKS / "roles"))
    return Hosts(tmp_path)


def test_hosts_are_claimed_and_given_back(hosts: Hosts) -> None:
    hosts.play("claim")
    assert hosts.owners == [OWN, OWN]
    hosts.play("claim")  # the same command, after it was killed
    assert hosts.owners == [OWN, OWN]
    hosts.play("free", OTHER)
    assert hosts.owners == [OWN, OWN]
    hosts.play("free")
    assert hosts.owners == ["", ""]
    hosts.play("free")


def test_hosts_of_which_another_one_has_one_are_left_alone(hosts: Hosts) -> None:
    """The other host is given back, so that two who begin at once do not keep each other out."""
    (hosts.folder / "beta").write_text(f"{OTHER}\n")
    with pytest.raises(NeedError) as caught:
        hosts.play("claim")
    assert caught.value.what == f"{OTHER} is at work on hosts of the inventory."
    assert "end what the other one is at" in caught.value.why
    assert f"remove {hosts.folder}/" in caught.value.next_step
    assert hosts.owners == ["", OTHER]


def test_who_has_not_given_back_for_long_is_at_work_no_more(hosts: Hosts) -> None:
    for name, age in (("alpha", 3700), ("beta", 4000)):
        file = hosts.folder / name
        file.write_text(f"{OTHER}\n")
        os.utime(file, (time.time() - age,) * 2)
    hosts.play("claim")
    assert hosts.owners == [OWN, OWN]
    hosts.play("claim")  # it counts from now on
    with pytest.raises(NeedError):
        hosts.play("claim", OTHER)
