"""Hosts that are somebody's, by an inventory: the stack comes, goes, and takes the cluster with it.

The tests of this file are one story and need each other, in their order.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from harness.linux.processes import Completed
from tests.cluster import machines
from tests.cluster.engine import Engine
from tests.cluster.played import Story
from tests.cluster.reached import HARNESS, Reached

pytestmark = pytest.mark.cluster

NAME = "theirs"
NAMES = ("machine-1", "machine-2")
# what a system mounts as it starts, and a container does not have
MOUNTS = f"from harness.targets.kubernetes import node_mounts; node_mounts.put({list(NAMES)})"


@dataclass
class Hosts:
    """The machines, as they were before, and commands about them."""

    story: Story
    there: Reached

    def harness(self, *words: str) -> Completed:
        done = self.there.run(HARNESS, *words, "--target", "vm", "--name", NAME)
        print(done.stdout + done.stderr)
        return done

    def up(self) -> Any:
        inventory = self.story.made.inventory(self.story.folder / "hosts.ini")
        words = ["--inventory", str(inventory)]
        given = {
            "cluster_source": "files", "cluster_files": str(self.story.files),
            "cluster_free_mib": "1024",
        }  # fmt: skip
        words += [word for each in given.items() for word in ("--set", "=".join(each))]
        done = self.harness("up", *words, "--json")
        assert done.returncode == 0
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def hosts(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("inventory")
    with machines.running(docker, len(NAMES), folder) as made:
        found = Hosts(Story(made, machines.files(docker), folder), Reached(docker, folder))
        found.there.run(sys.executable, "-c", MOUNTS, check=True)
        found.story.before = found.story.looked()
        yield found


def test_data_flow_on_them_and_a_second_up_changes_nothing(hosts: Hosts) -> None:
    proved = hosts.up()["proof"]
    assert {each["signal"] for each in proved} == {"traces", "metrics", "logs"}
    assert not hosts.up()["changed"]


def test_down_takes_the_stack_and_each_host_is_asked_what_is_left(hosts: Hosts) -> None:
    done = hosts.harness("down", "--verify")
    assert done.returncode == 0
    assert "The cluster stays on machine-1, machine-2" in done.stdout
    hosts.story.await_that("get", "--raw=/readyz")


def test_a_host_that_is_off_cannot_be_asked_and_is_named(hosts: Hosts) -> None:
    hosts.story.made.stop("machine-2")
    done = hosts.harness("down", "--verify")
    hosts.story.made.start("machine-2")
    assert done.returncode == 2
    assert "Left: machine-2 could not be asked what is left there: " in done.stdout
    assert "machine-1 could not" not in done.stdout


def test_reset_leaves_them_as_they_were(hosts: Hosts) -> None:
    done = hosts.harness("down", "--reset", "--verify")
    assert done.returncode == 0
    assert "Nothing is left." in done.stdout
    assert hosts.story.looked() == hosts.story.before
    assert not (hosts.there.folder / "state" / "harness").exists()
