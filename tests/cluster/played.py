"""Machines on which the playbooks are played; `test_machines` and others that tell of them ask."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.linux import processes
from tests.cluster.machines import Machines

SECONDS = 1800
FIRST = "machine-1"
KUBECTL = ("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf")

PLAY = """
import json, sys
from pathlib import Path
from harness.errors import HarnessError
from harness.targets.vm import ansible
asked = json.loads(sys.argv[1])
try:
    recap = ansible.play(
        asked["playbook"], Path(asked["inventory"]), asked["variables"], Path(asked["log"]),
        lambda line: print(line, file=sys.stderr, flush=True), check=asked["check"],
    )
    print(json.dumps({host: vars(counts) for host, counts in recap.items()}))
except HarnessError as error:
    print(json.dumps({"error": error.to_dict()}))
"""

# what is installed, and which files are where a system has its own; not what changes by itself, as
# folders of systemd that are empty
LOOK = r"""
dpkg-query --show
systemctl list-unit-files --no-legend --state=enabled
find /etc /opt /usr/local /usr/libexec /var/lib -xdev -not -path '/var/lib/dpkg/*' \
    -not -path '/var/lib/systemd/*' -not -path '/var/lib/apt/*' -not -path '/etc/ssh/ssh_host_*' \
    -not -path '/etc/systemd/system/*.wants' -not -name '*.cache' -not -name '*-'
sysctl --ignore net.ipv4.ip_forward net.ipv4.conf.all.accept_redirects \
    net.ipv4.conf.all.route_localnet net.bridge.bridge-nf-call-iptables vm.overcommit_memory \
    vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys \
    kernel.keys.root_maxbytes
ls /sys/class/net
"""


@dataclass
class Story:
    """The machines, what is installed on them, and how they were before."""

    made: Machines
    files: Path
    folder: Path
    before: dict[str, list[str]] = field(default_factory=dict)
    control_planes: int = 1

    def play(self, name: str, *, check: bool = False, lines: str = "", **more: Any) -> Any:
        """Run a playbook; `lines` go at the end of the inventory. Its recap, or its error."""
        inventory = self.made.inventory(self.folder / "inventory.ini", self.control_planes)
        with inventory.open("a") as stream:
            stream.write(lines)
        asked = {
            "playbook": name, "inventory": str(inventory), "log": str(self.folder / "ansible.log"),
            "check": check, "variables": {
                "cluster_source": "files", "cluster_files": str(self.files),
                "cluster_free_mib": 1024, "kubeconfig": str(self.folder / "kubeconfig"), **more,
            },
        }  # fmt: skip
        argv = self.made.engine.inside([sys.executable, "-c", PLAY, json.dumps(asked)])
        environment = self.made.engine.environment  # helm is on its PATH
        done = processes.run(argv, check=False, timeout=SECONDS, env=environment)
        print(done.stderr)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def site(self, **more: Any) -> Any:
        return self.play("site.yml", **more)

    @contextlib.contextmanager
    def as_soon_as(self, told: str, do: Callable[[], object]) -> Iterator[None]:
        """While it lasts, `do` is done when Ansible's log says so for the first time."""
        log, over = self.folder / "ansible.log", threading.Event()
        done: list[object] = []
        begin = len(log.read_text()) if log.exists() else 0

        def watch() -> None:
            while not over.is_set():
                if log.exists() and told in log.read_text()[begin:]:
                    done.append(do())
                    return
                time.sleep(0.1)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        assert done, f"{told!r} was never told"

    def kubectl(self, *words: str, check: bool = True, at: str = FIRST) -> str:
        return self.made.exec(at, *KUBECTL, *words, check=check)

    def looked(self) -> dict[str, list[str]]:
        """What is installed on each machine, and which files are where a system has its own."""
        return {
            each.name: sorted(self.made.exec(each.name, "sh", "-c", LOOK).splitlines())
            for each in self.made.all
        }

    def await_that(self, *words: str, seconds: float = 180, at: str = FIRST) -> None:
        """A command of kubectl that succeeds at last."""
        until = time.monotonic() + seconds
        while True:
            try:
                self.kubectl(*words, at=at)
                return
            except Exception:
                if time.monotonic() > until:
                    raise
            time.sleep(2)


def changed(recap: Any) -> dict[str, int]:
    """How many tasks changed each host; none may have failed."""
    assert "error" not in recap, recap
    return {host: counts["changed"] for host, counts in recap.items()}
