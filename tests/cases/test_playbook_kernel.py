"""What the playbook does to the kernel of a host that has one of its own, with modprobe played."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.linux import processes
from harness.targets.vm import ansible
from tests.cases import apart
from tests.cases.placed import put

ROLES = ansible.PLAYBOOKS / "roles"
LOADED = ["kernel", "printk"]  # any kernel has these folders
SETTINGS = {"net.bridge.one": 1, "net.ipv4.two": 1}
SYSCTL = """#!/bin/sh
case $1 in --load=*) touch FOLDER/set; exit ;; esac
[ -e FOLDER/set ] && printf 'net.bridge.one = 1\\nnet.ipv4.two = 1\\n' || true
"""
MODPROBE = """#!/bin/sh
echo "$*" >>FOLDER/asked
[ ! -e FOLDER/loadable ] || echo 'insmod /lib/modules/harness_never.ko'
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to mount")


@dataclass(frozen=True)
class Host:
    """It, with an /etc and parameters of its own in `folder`."""

    folder: Path

    def play(self, *modules: str) -> int:
        """How many tasks changed something."""
        play = {
            "hosts": "control_plane", "gather_facts": False,
            "environment": {"PATH": f"{self.folder}/there:/usr/sbin:/usr/bin:/sbin:/bin"},
            "tasks": [{"ansible.builtin.include_role": {"name": "host", "tasks_from": "kernel"}}],
        }  # fmt: skip
        (self.folder / "book.json").write_text(json.dumps([play]))
        given = {
            "cluster_is_container": False, "host_is_untouched": False,
            "host_modules": modules, "host_sysctls": SETTINGS,
        }  # fmt: skip
        book, inventory = str(self.folder / "book.json"), self.folder / "hosts.json"
        log = self.folder / "log"
        try:
            return ansible.play(book, inventory, given, log, print)["alpha"].changed
        finally:
            print(log.read_text()[-6000:])

    @property
    def asked(self) -> list[str]:
        """What modprobe was told."""
        file = self.folder / "asked"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    done = processes.run(["unshare", "--mount", "--uts", "true"], check=False)
    if done.returncode:
        pytest.skip(f"no namespaces here: {done.stderr.strip()}")
    monkeypatch.setenv("ANSIBLE_ROLES_PATH", str(ROLES))
    told = apart.host(tmp_path, "alpha", {"/proc/sys/net": "net"})
    put(tmp_path, "alpha/net/bridge/bridge-nf-call-iptables", "1")
    for part in ("modules-load.d", "sysctl.d"):
        (tmp_path / "alpha/etc" / part).mkdir(exist_ok=True)
    put(tmp_path, "there/sysctl", SYSCTL)
    put(tmp_path, "there/modprobe", MODPROBE)
    (tmp_path / "hosts.json").write_text(json.dumps({"control_plane": {"hosts": {"alpha": told}}}))
    return Host(tmp_path)


def test_modules_that_are_loaded_are_not_loaded_again(host: Host) -> None:
    """The first time they are written down for each start, and parameters are set."""
    assert host.play(*LOADED) == 3
    written = host.folder / "alpha/etc/modules-load.d/harness-cluster.conf"
    assert written.read_text() == "kernel\nprintk\n"
    assert host.play(*LOADED) == 0
    assert host.asked == []


def test_one_that_is_missing_is_loaded(host: Host) -> None:
    host.play(*LOADED)
    host.play(*LOADED, "harness_never")
    assert host.asked == ["--all --verbose kernel printk harness_never"]
    (host.folder / "loadable").touch()
    assert host.play(*LOADED, "harness_never") == 1


def test_one_that_is_built_in_changes_nothing(host: Host) -> None:
    """It may have no folder among those that are loaded; modprobe says nothing of it."""
    host.play(*LOADED, "harness_never")
    assert host.play(*LOADED, "harness_never") == 0
    assert len(host.asked) == 2
