"""Hosts are claimed by the playbook itself: two that are at them at once end nothing of each other.

That site.yml, upgrade.yml and reset.yml do it is in `test_playbook_hosts`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.errors import CommandError, NeedError
from harness.targets.vm import ansible

Task = dict[str, Any]
OWN, OTHER = "root@here (--name one)", "root@there (--name one)"
HOSTS = ("alpha", "beta")


@dataclass(frozen=True)
class Hosts:
    """Two hosts, of which `folder` has what is written there."""

    folder: Path

    def play(
        self,
        part: str,
        owner: str = OWN,
        *after: Task,
        said: Callable[[str], None] = print,
        alone: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Do a part of the role on both, and then what comes after it."""
        role = {"name": "cluster", "tasks_from": part}
        tasks = [{"ansible.builtin.include_role": role}, *after]
        play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
        common = {
            "ansible_connection": "local", "ansible_become": False, "cluster_owner": owner,
            "cluster_busy": f"{self.folder}/{{{{ inventory_hostname }}}}",
            "ansible_python_interpreter": str(Path(sys.executable).resolve()),
        }  # fmt: skip
        book, inventory = self.folder / "book.json", self.folder / "hosts.json"
        book.write_text(json.dumps([play]))
        hosts = {"hosts": dict.fromkeys(HOSTS)}
        inventory.write_text(json.dumps({"all": {"vars": common}, "control_plane": hosts}))
        log = self.folder / "log"
        try:
            recap = ansible.play(str(book), inventory, {}, log, said, alone=alone)
        finally:
            print(log.read_text()[-6000:])
        assert [counts.changed for counts in recap.values()] == [0, 0]

    def is_claimed_since(self, seconds: float) -> list[bool]:
        """Whether the claim on each is younger than that."""
        ages = [time.time() - (self.folder / name).stat().st_mtime for name in HOSTS]
        return [age < seconds for age in ages]

    def ages(self, owner: str, seconds: float) -> None:
        """Let somebody have claimed both so long ago."""
        for name in HOSTS:
            (self.folder / name).write_text(f"{owner}\n")
            os.utime(self.folder / name, (time.time() - seconds,) * 2)

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
    told: list[str] = []
    hosts.play("claim", alone=told.append)  # the same command, after it was killed
    assert hosts.owners == [OWN, OWN]
    assert sorted(told) == list(HOSTS)
    hosts.play("free", OTHER)
    assert hosts.owners == [OWN, OWN]
    hosts.play("free")
    assert hosts.owners == ["", ""]
    hosts.play("free")


def test_hosts_of_which_another_one_has_one_are_left_alone(hosts: Hosts) -> None:
    """The other host is given back, so that two who begin at once do not keep each other out.

    Neither counts as one at which something was done, which a reset would undo.
    """
    told: list[str] = []
    (hosts.folder / "beta").write_text(f"{OTHER}\n")
    with pytest.raises(NeedError) as caught:
        hosts.play("claim", alone=told.append)
    assert told == []
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


def test_a_claim_is_renewed_and_neither_made_anew_nor_taken(hosts: Hosts) -> None:
    hosts.ages(OWN, 3000)
    hosts.play("renew")
    assert hosts.is_claimed_since(600) == [True, True]
    for name in HOSTS:
        (hosts.folder / name).unlink()
    hosts.play("renew")  # as after the end of who had them
    assert hosts.owners == ["", ""]
    hosts.ages(OTHER, 3000)
    with pytest.raises(NeedError, match="is at work on hosts of the inventory"):
        hosts.play("renew")
    assert hosts.owners == [OTHER, OTHER]
    assert hosts.is_claimed_since(2400) == [False, False]


def test_hosts_of_an_inventory_without_groups_are_had_for_longer_too(hosts: Hosts) -> None:
    hosts.play("claim")
    hosts.ages(OWN, 3000)
    file = hosts.folder / "hosts.json"
    loose = json.loads(file.read_text())
    loose["all"]["hosts"] = loose.pop("control_plane")["hosts"]
    file.write_text(json.dumps(loose))
    ansible.play("renew.yml", file, {}, hosts.folder / "log", print)
    assert hosts.is_claimed_since(600) == [True, True]


def test_hosts_are_had_for_longer_while_one_task_takes_long(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ansible, "RENEWAL_SECONDS", 0.1)
    words = (
        "touch -d '-50 minutes' {{ cluster_busy }}; for i in $(seq 600); do sleep 0.1; "
        "[ $(($(date +%s) - $(stat -c %Y {{ cluster_busy }}))) -ge 1800 ] || exit 0; done; exit 1"
    )
    defaults = {"cluster_busy": f"{hosts.folder}/{{{{ inventory_hostname }}}}"}
    task = {"ansible.builtin.shell": words, "vars": defaults, "changed_when": False}
    hosts.play("claim", OWN, task)
    assert hosts.owners == [OWN, OWN]
    assert hosts.is_claimed_since(1800) == [True, True]


def test_a_renewal_that_cannot_be_begun_ends_nothing(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = ansible._Run.begun

    def begin(run: Any, playbook: str, *words: Any) -> Any:
        if playbook == "renew.yml":
            raise OSError("No space left on device")
        return begun(run, playbook, *words)

    monkeypatch.setattr(ansible._Run, "begun", begin)
    monkeypatch.setattr(ansible, "RENEWAL_SECONDS", 0.1)
    hosts.play("claim")
    assert hosts.owners == [OWN, OWN]


def test_who_fails_gives_back_what_he_has_and_says_why_he_failed(hosts: Hosts) -> None:
    fails = {"name": "Break it", "ansible.builtin.command": "false"}
    with pytest.raises(CommandError, match=r"^`Break it` failed on (alpha|beta)"):
        hosts.play("claim", OWN, fails)
    assert hosts.owners == ["", ""]


def test_who_is_stopped_gives_back_what_he_has(hosts: Hosts) -> None:
    def stop(_: str) -> None:
        raise KeyboardInterrupt

    tells = {"ansible.builtin.debug": {"msg": "now"}}
    waits = {"ansible.builtin.command": "sleep 600"}
    with pytest.raises(KeyboardInterrupt):
        hosts.play("claim", OWN, tells, waits, said=stop)
    assert hosts.owners == ["", ""]


def test_who_is_stopped_before_it_was_looked_gives_back_what_he_has(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is told where something was done."""

    def read(_: Any) -> list[Any]:
        if all((hosts.folder / f"{name}.at-work").exists() for name in HOSTS):
            raise KeyboardInterrupt
        return []

    told: list[str] = []
    monkeypatch.setattr(ansible._Lines, "read", read)
    works = {"ansible.builtin.shell": f"touch {hosts.folder}/{{{{ inventory_hostname }}}}.at-work"}
    waits = {"ansible.builtin.command": "sleep 600"}
    with pytest.raises(KeyboardInterrupt):
        hosts.play("claim", OWN, works, waits, alone=told.append)
    assert hosts.owners == ["", ""]
    assert sorted(told) == list(HOSTS)


def test_what_keeps_hosts_from_being_given_back_hides_no_other_error(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    book, away = ansible.PLAYBOOKS / "ended.yml", hosts.folder / "away"
    assert book.exists()
    monkeypatch.setattr(ansible, "PLAYBOOKS", away)
    fails = {"name": "Break it", "ansible.builtin.command": "false"}
    with pytest.raises(CommandError, match=r"^`Break it` failed on (alpha|beta)"):
        hosts.play("claim", OWN, fails)
    assert hosts.owners == [OWN, OWN]
