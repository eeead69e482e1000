"""`harness up` that is killed, disturbed, or called twice: the next one completes, nothing is left.

One story: each test begins with what the one before left.
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
from tests.cluster import images
from tests.cluster.engine import Engine
from tests.cluster.reached import HARNESS, SECONDS, Reached

pytestmark = pytest.mark.cluster

NAME = "harness-killed"
MINUTE = 60.0
CONTROL, WORKER = f"{NAME}-control-plane", f"{NAME}-worker"
UP = (HARNESS, "up", "--target", "kind", "--name", NAME, "--nodes", "2", "--image", images.NODE)


class There(Reached):
    """Where the cluster is, will be, or half is."""

    def up(self) -> dict[str, Any]:
        done = self.run(*UP, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def status(self) -> dict[str, Any]:
        done = self.run(HARNESS, "status", "--target", "kind", "--name", NAME, "-o", "json")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    @property
    def way(self) -> list[str]:
        """What names the same cluster as one that exists."""
        return ["--kubeconfig", self.up()["kubeconfig"]]

    @contextlib.contextmanager
    def going_up(self) -> Iterator[tuple[Process, Path]]:
        log = self.folder / f"{time.monotonic_ns()}.log"
        argv = self.engine.inside(UP)
        process = processes.spawn(argv, log=log, env=self.environment)
        try:
            yield process, log
        finally:
            processes.stop(process, grace_seconds=120)

    def kill_in(self, phase: str, seconds: float) -> None:
        """Kill it alone, so many seconds after it has begun a phase."""
        with self.going_up() as (process, log):
            reach(process, log, f"{phase} ...")
            time.sleep(seconds)
            assert process.poll() is None, log.read_text()
            os.kill(process.pid, signal.SIGKILL)
            assert processes.ended(process, 30) == -signal.SIGKILL


def reach(process: Process, log: Path, what: str) -> None:
    deadline = time.monotonic() + 300
    while what not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@pytest.fixture(scope="module")
def there(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[There]:
    made = There(docker, tmp_path_factory.mktemp("killed"))
    yield made
    done = made.run(HARNESS, "down", "--target", "kind", "--name", NAME, "--verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not docker.docker("ps", "--all", "--quiet").strip()


@pytest.mark.parametrize(
    ("phase", "seconds"), [("cluster", 10), ("images", 3), ("installation", 3), ("proof", 0.5)]
)
def test_one_that_is_killed_is_completed_by_the_next(
    there: There, phase: str, seconds: float
) -> None:
    there.kill_in(phase, seconds)
    there.up()
    assert set(there.status()["proof"]) == {"traces", "metrics", "logs"}
    assert not there.up()["changed"]
    if phase != "proof":  # the next one has all phases before it again
        there.run(HARNESS, "down", "--target", "kind", "--name", NAME)


@pytest.mark.parametrize("disturbance", ["restart", "stand still"])
def test_one_that_is_disturbed_ends_in_a_stack_or_in_words_and_the_next_completes(
    there: There, disturbance: str
) -> None:
    """A node is restarted while pods are made; the API answers nothing for a minute."""
    there.run(HARNESS, "down", "--target", "existing", *there.way, check=True)
    with there.going_up() as (process, log):
        reach(process, log, "installation ...")
        time.sleep(3)
        assert process.poll() is None, log.read_text()
        if disturbance == "restart":
            assert there.run("docker", "restart", WORKER).returncode == 0
        else:
            with there.still(CONTROL):
                time.sleep(MINUTE)
        code = processes.ended(process, SECONDS)
    said = log.read_text()
    print(f"{disturbance}: it ended with {code}", said)
    assert "Traceback" not in said
    assert code in (0, 2)
    if code:
        assert "Error: " in said
    there.up()
    found = there.status()
    assert (found["ready"], set(found["proof"])) == (True, {"traces", "metrics", "logs"})
    assert [each["agents_ready"] for each in found["nodes"]] == [True, True]
    assert not there.up()["changed"]


def test_two_at_once_are_refused(there: There) -> None:
    with there.going_up() as (process, log):
        reach(process, log, "checks ...")
        second = there.run(*UP)
        code = processes.ended(process, SECONDS)
    assert code == 0, log.read_text()
    assert second.returncode == 2
    assert "is at work" in second.stderr
    assert not there.up()["changed"]


def test_a_node_that_restarts_comes_back_with_its_agents(there: There) -> None:
    assert there.run("docker", "restart", WORKER).returncode == 0
    deadline = time.monotonic() + 180  # until the API has noticed, and all of it is back
    while not (found := there.status())["ready"]:
        assert time.monotonic() < deadline, found
        time.sleep(3)
    assert set(found["proof"]) == {"traces", "metrics", "logs"}
    assert [each["agents_ready"] for each in found["nodes"]] == [True, True]
