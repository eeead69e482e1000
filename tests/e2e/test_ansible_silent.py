"""A host that vanishes in the middle of a task, without a word, is named: nobody waits for ever."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from harness.errors import NeedError
from harness.linux import processes
from harness.targets.vm import ansible
from tests.e2e import sshd
from tests.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed for a host of its own"),
]
pytest.importorskip("ansible", reason="Ansible is not installed: make setup-test")

ARGUMENTS = "ANSIBLE_SSH_ARGS"


def test_a_host_that_is_gone_in_the_middle_of_a_task_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its network takes and gives nothing any more. It is asked every second here."""
    told = ansible._ENVIRONMENT[ARGUMENTS]
    assert "ServerAliveInterval=15" in told
    often = told.replace("ServerAliveInterval=15", "ServerAliveInterval=1")
    monkeypatch.setitem(ansible._ENVIRONMENT, ARGUMENTS, often)
    begun = tmp_path / "begun"
    task = {"ansible.builtin.shell": f"touch {begun}; exec sleep 1000"}
    play = {"hosts": "all", "gather_facts": False, "tasks": [task]}
    (tmp_path / "site.json").write_text(json.dumps([play]))
    with sshd.serve() as server:
        host = {
            "ansible_ssh_common_args": f"-F {server.configuration()}",
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {sshd.NAME: host}}}))

        def cut() -> None:
            until(begun.exists)
            network = f"--net=/proc/{server.pid}/ns/net"
            processes.run(["nsenter", network, "ip", "link", "set", "lo", "down"])

        book, hosts = str(tmp_path / "site.json"), tmp_path / "hosts.json"
        cutter = threading.Thread(target=cut)
        cutter.start()
        with pytest.raises(NeedError) as caught:
            ansible.play(book, hosts, {}, tmp_path / "ansible.log", print)
        cutter.join()
    assert begun.exists()
    assert caught.value.what == f"{sshd.NAME} cannot be reached."
