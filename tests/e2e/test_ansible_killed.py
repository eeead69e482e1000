"""Ansible ends with a harness that was killed: no task comes after the one that is under way."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.linux import processes
from tests.waiting import until

pytestmark = pytest.mark.e2e
pytest.importorskip("ansible", reason="Ansible is not installed: make setup-test")

HARNESS = """
import sys
from pathlib import Path
from harness.targets.vm import ansible
place = Path(sys.argv[1])
ansible.PLAYBOOKS = place
ansible.play("site.yml", place / "hosts.json", {}, place / "ansible.log", print)
"""
TASKS = [
    {"ansible.builtin.shell": "touch {place}/begun; while [ ! -e {place}/go ]; do sleep 0.1; done"},
    {"ansible.builtin.shell": "touch {place}/after"},
]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    tasks = json.loads(json.dumps(TASKS).replace("{place}", str(tmp_path)))
    play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {"all": {"hosts": {"a": local, "b": local}}}
    (tmp_path / "site.yml").write_text(json.dumps([play]))
    (tmp_path / "hosts.json").write_text(json.dumps(hosts))
    yield tmp_path
    (tmp_path / "go").touch()


def running(place: Path) -> list[int]:
    """Ansible, and its workers, which are called as it is."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            words = (each / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.endswith(b"/ansible-playbook") for word in words[:2]) and any(
            str(place).encode() in word for word in words
        ):
            found.append(int(each.name))
    return found


def test_its_workers_end_with_the_harness_and_begin_nothing_more(place: Path) -> None:
    harness = processes.spawn([sys.executable, "-c", HARNESS, str(place)], log=place / "log")
    try:
        assert until((place / "begun").exists), (place / "ansible.log").read_text()
        assert len(running(place)) > 1  # it, and who waits for the task
        harness.send_signal(signal.SIGKILL)
        assert harness.wait(60) == -signal.SIGKILL
        assert until(lambda: not running(place))
    finally:
        processes.stop(harness)
    (place / "go").touch()
    assert not (place / "after").exists()


def test_it_goes_on_to_its_end_as_long_as_the_harness_lives(place: Path) -> None:
    (place / "go").touch()
    harness = processes.spawn([sys.executable, "-c", HARNESS, str(place)], log=place / "log")
    assert processes.ended(harness, 120) == 0, (place / "ansible.log").read_text()
    assert (place / "after").exists()
