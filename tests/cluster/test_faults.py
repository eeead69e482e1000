"""What goes wrong while machines become a cluster: each is told, and the same command completes it.

A password that is wrong and a machine that is off are in `test_machines`; `kill -9` and two runs at
once in `test_vm`. The tests of this file are one story and need each other, in their order.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from harness.errors import ComponentError, HarnessError, NeedError
from harness.targets.vm import failures
from tests.cluster import machines
from tests.cluster.engine import Engine
from tests.cluster.played import FIRST, Story, changed

pytestmark = pytest.mark.cluster

SECOND = "machine-2"
JOIN = "TASK [join : Join the cluster]"
# its kernel's clock is that of all the others
AN_HOUR_AHEAD = """#!/bin/sh
[ "$1" = +%s ] || exec /usr/bin/date "$@"
exec /usr/bin/date --date='1 hour' +%s
"""
JOINED = """
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
timeouts: {discovery: 5s}
discovery:
  bootstrapToken: {apiServerEndpoint: 'ADDRESS', token: TOKEN, unsafeSkipCAVerification: true}
nodeRegistration: {ignorePreflightErrors: [all]}
"""


@pytest.fixture(scope="module")
def story(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("faults")
    with machines.running(docker, 2, folder) as made:
        yield Story(made, machines.files(docker), folder)


def said(story: Story) -> dict[str, Any]:
    """The error of a run."""
    told: dict[str, Any] = story.site()["error"]
    print(told)
    return told


def nodes(story: Story) -> list[str]:
    found = json.loads(story.kubectl("get", "nodes", "--output=json"))["items"]
    return [each["metadata"]["name"] for each in found]


def test_clocks_that_are_an_hour_apart_are_refused(story: Story) -> None:
    put = f"cat >/usr/local/sbin/date <<'END'\n{AN_HOUR_AHEAD}END\nchmod 755 /usr/local/sbin/date"
    story.made.exec(SECOND, "sh", "-c", put)
    told = said(story)
    story.made.exec(SECOND, "rm", "/usr/local/sbin/date")
    found = re.match(r"The clocks of the hosts are (\d+) s apart \(machine-1: ", told["what"])
    assert found is not None
    assert 3590 < int(found[1]) < 3610
    assert "timedatectl set-ntp" in told["next_step"]


def test_a_disk_without_room_is_refused_before_anything(story: Story) -> None:
    told = story.site(cluster_free_mib=1 << 40)["error"]
    assert re.match(r"machine-\d has \d+ MiB free in /var/lib\.", told["what"])
    assert "noted" not in story.made.exec(FIRST, "sh", "-c", "ls /var/lib/harness-cluster || true")


def test_a_node_of_somebody_elses_cluster_is_refused_and_left_alone(story: Story) -> None:
    put = "mkdir /etc/kubernetes && echo theirs >/etc/kubernetes/kubelet.conf"
    story.made.exec(SECOND, "sh", "-c", put)
    told = said(story)
    assert told["what"] == f"{SECOND} is a node of a cluster already."
    assert story.made.exec(SECOND, "cat", "/etc/kubernetes/kubelet.conf") == "theirs\n"
    assert "noted" not in story.made.exec(SECOND, "sh", "-c", "ls /var/lib/harness-cluster || true")
    story.made.exec(SECOND, "rm", "-r", "/etc/kubernetes")


def test_a_disk_that_becomes_full_is_named(story: Story) -> None:
    """The one that what is copied comes to, which is the system's on most hosts."""
    script = "mkdir -p /root/.ansible && mount -t tmpfs -o size=8m tmpfs /root/.ansible"
    story.made.exec(SECOND, "sh", "-c", script)
    told = said(story)
    story.made.exec(SECOND, "umount", "/root/.ansible")
    assert told["what"] == f"The disk of {SECOND} is full."
    assert "run the same command again" in told["next_step"]


def test_a_host_that_is_gone_in_the_middle_of_its_join_is_named(story: Story) -> None:
    """No packet says so. Its kubeadm goes on there meanwhile."""
    with story.as_soon_as(JOIN, lambda: story.made.cut(SECOND)):
        told = said(story)
    there = nodes(story)
    story.made.mend(SECOND)
    assert told["what"] == f"{SECOND} cannot be reached."
    assert there == [FIRST]
    log = (story.folder / "ansible.log").read_text()
    assert "TASK [ready : " not in log  # nobody waits for it


def joining(story: Story, token: str, port: int) -> HarnessError:
    """What is told of a join that kubeadm gives up after five seconds."""
    address = f"{story.made.all[0].address}:{port}"
    asked = JOINED.replace("TOKEN", token).replace("ADDRESS", address)
    script = 'printf %s "$1" >/root/join; kubeadm join --config=/root/join 2>&1'
    words = story.made.exec(SECOND, "sh", "-c", script, "sh", asked, check=False)
    event = {
        "event": "failed", "host": SECOND, "role": "join", "task": "Join the cluster",
        "action": "ansible.builtin.command", "message": "", "stdout": "", "stderr": words,
    }  # fmt: skip
    error = failures.explain([event], story.folder / "ansible.log")
    print(error)
    return error


def test_what_kubeadm_says_of_a_token_that_has_expired_is_understood(story: Story) -> None:
    token = story.made.exec(FIRST, "kubeadm", "token", "create", "--ttl=1s").strip()
    time.sleep(5)
    error = joining(story, token, 6443)
    assert isinstance(error, ComponentError)
    assert error.what == f"The token with which {SECOND} was to join is not valid any more."


def test_what_kubeadm_says_where_it_does_not_reach_the_api_is_understood(story: Story) -> None:
    error = joining(story, "abcdef.0123456789abcdef", 6444)
    assert isinstance(error, NeedError)
    assert error.what == f"{SECOND} does not reach the control plane."


def test_a_host_that_restarts_in_the_middle_of_its_join_is_named(story: Story) -> None:
    with story.as_soon_as(JOIN, lambda: story.made.crash(SECOND)):
        told = said(story)
    assert told["what"] == f"{SECOND} cannot be reached."


def test_the_same_command_completes_it(story: Story) -> None:
    assert changed(story.site())[SECOND] > 0
    assert nodes(story) == [FIRST, SECOND]
    assert changed(story.site()) == {FIRST: 0, SECOND: 0}
