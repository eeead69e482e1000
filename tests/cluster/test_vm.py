"""Machines become a cluster, are measured in it and bare, and go again: containers with sshd.

The tests of this file are one story and need each other, in their order.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.linux import processes
from harness.linux.processes import Process
from tests.cluster import images, machines
from tests.cluster.engine import Engine
from tests.cluster.reached import HARNESS, SECONDS, Reached

pytestmark = pytest.mark.cluster

NAME = "bare"
FIRST, SECOND, THIRD = (f"{NAME}-{number}" for number in (1, 2, 3))
SIGNALS = {"traces", "metrics", "logs"}
KNOWN_NS = 500_000
EXPERIMENT = f"""
workloads = ["WORKLOAD"]
blocks = 2
window_seconds = 0.1
guard_seconds = 0.02
warmup_seconds = 2.0
warmup_limit_seconds = 6.0
settle_seconds = 0.3
switched_seconds = 6.0
steady_seconds = 1.0
metered_seconds = 1.0
calibration_seconds = 2.0
replacements = 0
seed = 5
[loads.WORKLOAD]
rate = 100
connections = 4
[[arms]]
name = "baseline"
[[arms]]
name = "known"
collectors = ["inject:ns={KNOWN_NS}"]
"""


class There(Reached):
    """Where the machines are, and commands about them."""

    @property
    def up(self) -> list[str]:
        files = machines.files(self.engine)  # made when the images were
        words = ["up", "--target", "vm", "--name", NAME, "--create", "3", "--image", images.HOST]
        return [HARNESS, *words, "--set", "cluster_source=files", "--set", f"cluster_files={files}"]

    def json(self, *words: str) -> Any:
        done = self.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def status(self) -> dict[str, Any]:
        done = self.run(HARNESS, "status", "--target", "vm", "--name", NAME, "-o", "json")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    @contextlib.contextmanager
    def started(self, argv: list[str]) -> Iterator[tuple[Process, Path]]:
        log = self.folder / f"{time.monotonic_ns()}.log"
        process = processes.spawn(self.engine.inside(argv), log=log, env=self.environment)
        try:
            yield process, log
        finally:
            processes.stop(process, grace_seconds=120)

    def address(self, machine: str) -> str:
        found = self.status()["machines"]
        return str(next(each["address"] for each in found if each["name"] == machine))

    def known_cost(self, name: str, workload: str, *words: str) -> dict[str, Any]:
        """The row of a cost that is known, measured as a run of this name."""
        file = self.folder / f"{name}.toml"
        file.write_text(EXPERIMENT.replace("WORKLOAD", workload))
        argv = [HARNESS, "evaluate", str(file), "--run", name, "--reports", str(self.folder)]
        done = self.run(*argv, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads((self.folder / name / "report.json").read_text())
        (row,) = (
            row for row in report["rows"]
            if (row["arm"], row["metric"]) == ("known", "workload_cpu_us")
        )  # fmt: skip
        assert any("share this machine's kernel" in each for each in report["warnings"])
        return dict(row)


def reach(process: Process, log: Path, what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while what not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@pytest.fixture(scope="module")
def there(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[There]:
    made = There(docker, tmp_path_factory.mktemp("vm"))
    yield made
    made.run(HARNESS, "down", "--target", "vm", "--name", NAME)


def test_one_that_is_killed_is_completed_by_the_same_command(there: There) -> None:
    """It had made the machines, and had begun to make them a cluster: they are the same after."""
    with there.started(there.up) as (process, log):
        reach(process, log, "hosts: ")
        os.kill(process.pid, signal.SIGKILL)
        assert processes.ended(process, 30) == -signal.SIGKILL
    before = there.run("docker", "ps", "--quiet").stdout.split()
    assert len(before) == 3
    with there.started([*there.up, "--json"]) as (process, log):
        reach(process, log, "checks ...")
        second = there.run(*there.up)
        assert processes.ended(process, SECONDS) == 0, log.read_text()
    assert second.returncode == 2
    assert "is at work" in second.stderr
    assert there.run("docker", "ps", "--quiet").stdout.split() == before
    print(log.read_text())


def test_it_is_proved_and_a_second_up_changes_nothing(there: There) -> None:
    made = there.json(*there.up, "--json")
    assert not made["changed"]
    assert made["context"] == f"vm-{NAME}"
    found = there.status()
    assert found["ready"], found
    assert set(found["proof"]) == SIGNALS
    assert found["origin"]["k8s.deployment.name"] == "go"
    assert [each["agents_ready"] for each in found["nodes"]] == [True] * 3
    told = [(each["name"], each["role"], each["made"]) for each in found["machines"]]
    assert told == [
        (FIRST, "control_plane", "containers"),
        (SECOND, "worker", "containers"),
        (THIRD, "worker", "containers"),
    ]


def test_a_known_cost_comes_back_in_the_cluster(there: There) -> None:
    row = there.known_cost("in-cluster", "plain", "--target", f"vm,name={NAME},node={SECOND}")
    assert row["low"] > 0.5 * KNOWN_NS / 1000
    assert row["high"] < 2 * KNOWN_NS / 1000
    kubectl = ["kubectl", f"--kubeconfig={there.folder}/state/harness/vm/{NAME}/kubeconfig"]
    assert "harness-evaluate" not in there.run(*kubectl, "get", "namespaces").stdout


def test_a_known_cost_comes_back_on_a_bare_host_with_load_from_another(there: There) -> None:
    url = f"http://{there.address(THIRD)}:8080/"
    row = there.known_cost(
        "on-host", "own", "--target", f"vm,name={NAME}", "--host", THIRD, "--load-host", SECOND,
        "--command", "python3 -m http.server --bind 0.0.0.0 8080", "--url", url,
    )  # fmt: skip
    assert row["low"] > 0.5 * KNOWN_NS / 1000
    assert row["high"] < 2 * KNOWN_NS / 1000
    for host in (SECOND, THIRD):  # what was installed there is gone
        done = there.run("docker", "exec", host, "ls", "/var/lib/harness")
        assert done.returncode, done.stdout


TIMER = """
printf '[Timer]\\nOnActiveSec=1d\\n' >/etc/systemd/system/logrotate.timer
printf '[Service]\\nExecStart=/bin/true\\n' >/etc/systemd/system/logrotate.service
systemctl daemon-reload && systemctl start logrotate.timer
"""


def state(there: There, wish: dict[str, str]) -> str:
    """What the machine says of a thing that `tune` sets."""
    asks = ("cat",) if wish["kind"] == "file" else ("systemctl", "is-active")
    return there.run("docker", "exec", THIRD, *asks, wish["what"]).stdout


def test_a_machine_is_tuned_and_given_back(there: There) -> None:
    """By ssh; its systemd is its own, its kernel this machine's."""
    there.run("docker", "exec", THIRD, "sh", "-c", TIMER, check=True)
    words = ("--target", f"vm,name={NAME},host={THIRD}", "--json")
    rows = there.json(HARNESS, "tune", "--plan", *words)
    planned = {wish["what"]: wish for row in rows for wish in row["set"]}
    assert planned["logrotate.timer"]["knob"] == "background timers"
    if {"SMT siblings", "swap"} & {wish["knob"] for wish in planned.values()}:
        pytest.skip("what would be set is this machine's, whose threads and swap stay as they are")
    before = {what: state(there, wish) for what, wish in planned.items()}
    done = there.json(HARNESS, "tune", *words)
    assert state(there, planned["logrotate.timer"]) == "inactive\n"
    assert len(done["done"]) + len(done["refused"]) == len(planned)
    assert not there.json(HARNESS, "restore", *words)["refused"]
    assert {what: state(there, wish) for what, wish in planned.items()} == before
    assert there.json(HARNESS, "restore", *words) == {"done": [], "refused": []}


def test_a_bundle_gives_a_machine_what_it_lacks(there: There, tmp_path: Path) -> None:
    file = tmp_path / "harness.tar"
    made = there.json(HARNESS, "bundle", str(file), "--json")
    image = next(each["name"] for each in made["images"] if "victoria" in each["name"])
    ctr = ("docker", "exec", SECOND, "ctr", "--namespace=k8s.io", "images")
    there.run(*ctr, "rm", image, check=True)
    assert image not in there.run(*ctr, "ls", "--quiet", check=True).stdout.split()
    done = there.run(*there.up, "--bundle", str(file), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not json.loads(done.stdout)["changed"]
    assert f"images from harness.tar into {SECOND}" in done.stderr
    assert image in there.run(*ctr, "ls", "--quiet").stdout.split()
    file.unlink()  # pytest would keep it


def test_a_machine_that_restarts_comes_back_with_its_agents(there: There) -> None:
    before = there.address(SECOND)
    assert there.run("docker", "restart", SECOND).returncode == 0
    deadline = time.monotonic() + 300  # until the API has noticed, and all of it is back
    while not (found := there.status())["ready"]:
        assert time.monotonic() < deadline, found
        time.sleep(3)
    assert set(found["proof"]) == SIGNALS
    assert there.address(SECOND) == before
    assert not there.json(*there.up, "--json")["changed"]


def test_down_removes_the_machines_and_nothing_is_left(there: There) -> None:
    stranger = there.run("docker", "run", "--detach", images.HOST, check=True).stdout.strip()
    done = there.run(HARNESS, "down", "--target", "vm", "--name", NAME, "--verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing is left." in done.stdout
    assert there.run("docker", "ps", "--all", "--quiet", "--no-trunc").stdout.split() == [stranger]
    assert "harness-vm" not in there.run("docker", "network", "ls").stdout
    there.run("docker", "rm", "--force", "--volumes", stranger)
    assert not (there.folder / "state" / "harness").exists()
    assert not there.run("docker", "volume", "ls", "--quiet").stdout.split()
