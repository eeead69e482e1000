"""Who keeps a host's time, by the playbook itself: what it begins there the reset ends again.

systemctl and timedatectl are programs that stand in for a host's.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.linux import processes
from harness.targets.vm import ansible
from tests.cases.placed import put
from tests.cases.test_reset_script import bare, resetting

ROLES = ansible.PLAYBOOKS / "roles"
PROGRAMS = {
    "systemctl": """
what=$1
shift
for name; do
    if grep -qsxF "$what $name" FOLDER/units; then echo "${what#is-}"; else echo no; fi
done
exit 3
""",
    "timedatectl": """
case "$*" in
show*) cat FOLDER/ntp ;;
*)
    echo "$*" >>FOLDER/done
    echo 'is-enabled systemd-timesyncd' >>FOLDER/units
    exit "$(cat FOLDER/code)"
    ;;
esac
""",
}  # fmt: skip

__all__ = ["bare"]


@dataclass(frozen=True)
class Host:
    """The host, whose programs and notes are in `folder`."""

    folder: Path

    def play(self) -> int:
        """How many tasks changed something."""
        tasks = [{"ansible.builtin.include_role": {"name": "host", "tasks_from": "time"}}]
        play = {
            "hosts": "all", "gather_facts": False, "tasks": tasks,
            "environment": {"PATH": f"{self.folder}/there:/usr/sbin:/usr/bin:/sbin:/bin"},
        }  # fmt: skip
        host = {
            "ansible_connection": "local", "cluster_state": f"{self.folder}/state",
            "cluster_is_container": False,
            "ansible_python_interpreter": str(Path(sys.executable).resolve()),
        }  # fmt: skip
        book, inventory = self.folder / "book.json", self.folder / "hosts.json"
        book.write_text(json.dumps([play]))
        inventory.write_text(json.dumps({"all": {"hosts": {"alpha": host}}}))
        log = self.folder / "log"
        try:
            return ansible.play(str(book), inventory, {}, log, print)["alpha"].changed
        finally:
            print(log.read_text()[-6000:])

    @property
    def done(self) -> list[str]:
        """What timedatectl was told."""
        said = self.folder / "done"
        return said.read_text().splitlines() if said.exists() else []

    @property
    def is_noted(self) -> bool:
        """Whether a reset will end it."""
        return (self.folder / "state/ntp").exists()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("ANSIBLE_ROLES_PATH", str(ROLES))
    (tmp_path / "state").mkdir()
    for name, text in PROGRAMS.items():
        put(tmp_path, f"there/{name}", f"#!/bin/sh\n{text}\n")
    for name, text in {"units": "", "ntp": "no\n", "code": "0\n"}.items():
        (tmp_path / name).write_text(text)
    return Host(tmp_path)


def test_where_nobody_keeps_the_time_it_is_kept_and_noted_once(host: Host) -> None:
    assert host.play() == 1
    assert host.done == ["set-ntp true"]
    assert host.is_noted
    assert host.play() == 0
    assert host.done == ["set-ntp true"]


@pytest.mark.parametrize(
    "unit", ["is-active chrony", "is-active ptp4l", "is-active phc2sys@*", "is-enabled ntpsec"]
)
def test_who_keeps_the_time_is_left_alone(host: Host, unit: str) -> None:
    (host.folder / "units").write_text(f"{unit}\n")
    assert host.play() == 0
    assert host.done == []
    assert not host.is_noted


def test_who_is_known_to_timedatectl_alone_is_left_alone_as_well(host: Host) -> None:
    (host.folder / "ntp").write_text("yes\n")
    assert host.play() == 0
    assert host.done == []


def test_a_host_with_nothing_to_keep_the_time_goes_on_and_has_no_note(host: Host) -> None:
    (host.folder / "code").write_text("1\n")
    assert host.play() == 0
    assert host.done == ["set-ntp true"]
    assert not host.is_noted


@pytest.mark.parametrize("noted", [True, False])
def test_a_reset_ends_what_keeps_the_time_where_that_was_begun_from_here(
    host: Host, bare: Path, noted: bool
) -> None:
    put(host.folder, "path/timedatectl", '#!/bin/sh\necho "$*" >>FOLDER/done\n')
    if noted:
        (bare / "ntp").touch()
    words = ["sh", str(resetting(host.folder)), "remove", str(bare)]
    assert processes.run(words, check=False).returncode == 0
    assert host.done == (["set-ntp false"] if noted else [])
    assert not bare.exists()


def test_all_is_noted_before_the_time_is_kept() -> None:
    """The notes' folder is made then, and this one is in it."""
    text = (ROLES / "host/tasks/main.yml").read_text()
    assert -1 < text.index("note.sh {{ cluster_state }}") < text.index("time.yml")
    assert "set-ntp true\n" not in (ROLES / "host/tasks/clocks.yml").read_text()
