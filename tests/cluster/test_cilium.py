"""Machines become a cluster whose network is Cilium, offline, and are as they were: two stories.

Cilium, its chart and its datapath are real; `cilium` says how they are had. The first story is told
by the playbooks, the second by `harness up`. The tests of each need each other, in their order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.linux import processes
from tests.cluster import cilium, images, machines, programs
from tests.cluster.engine import Engine
from tests.cluster.played import FIRST, Story, changed
from tests.cluster.reached import HARNESS, Reached
from tests.cluster.test_machines import PODS

pytestmark = pytest.mark.cluster

SECOND, NAME = "machine-2", "with-cilium"
NOTHING = {FIRST: 0, SECOND: 0}
# what a host has of its network, and what is pinned and mounted there
NETWORK = r"""
ip -o link | sed -E 's/^[0-9]+: ([^:@]*).*/link \1/'
for family in -4 -6; do
    ip $family rule
    ip $family route show table all | sed 's/ *expires.*//'
done
find /sys/fs/bpf -mindepth 1 -not -name '*.debug'
awk '$3 == "bpf" || $2 ~ /cilium/ {print "mount", $2}' /proc/self/mounts
ls -d /run/cilium 2>/dev/null
sysctl --ignore net.ipv4.conf.all.rp_filter net.core.bpf_jit_enable kernel.timer_migration
"""
ASK = ("exec", "client", "--", "/bin/busybox", "wget", "-q", "-O", "-",
       "http://server.default.svc.cluster.local/")  # fmt: skip
KERNEL = ("kernel/timer_migration", "net/core/bpf_jit_enable")


def parameters() -> dict[str, str]:
    return {each: (Path("/proc/sys") / each).read_text() for each in KERNEL}


@pytest.fixture(scope="module")
def kernel() -> Iterator[None]:
    """Parameters of this machine's kernel that Cilium's agents set, as they were in the end."""
    before = parameters()
    yield
    for each, text in before.items():
        (Path("/proc/sys") / each).write_text(text)


@pytest.fixture(scope="module")
def files(docker: Engine, kernel: None) -> Path:
    if not os.environ.get("HARNESS_HUBBLE"):
        pytest.skip("`make test-hubble` builds and runs it: ten minutes the first time")
    if not cilium.files(docker).is_dir():
        pytest.skip("its files are not in the cache: `make test-hubble` builds them")
    return cilium.files(docker)


@pytest.fixture(scope="module")
def story(docker: Engine, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("cilium")
    with machines.running(docker, 2, folder) as made:
        told = Story(made, files, folder)
        yield told
        print(told.kubectl("get", "nodes,pods", "-A", "-o", "wide", check=False))


def site(story: Story, **more: Any) -> Any:
    asked = {"cluster_network": "cilium", "cluster_cilium_version": programs.CILIUM}
    return story.site(**asked, cluster_cilium_values=cilium.values(), **more)


def networks(story: Story) -> dict[str, list[str]]:
    names = [each.name for each in story.made.all]
    return {
        name: sorted(story.made.exec(name, "sh", "-c", NETWORK, check=False).splitlines())
        for name in names
    }


@pytest.fixture(scope="module")
def before(story: Story) -> dict[str, Any]:
    return {"looked": story.looked(), "networks": networks(story)}


def test_a_look_at_bare_machines_changes_nothing(story: Story, before: dict[str, Any]) -> None:
    changed(site(story, check=True))
    assert story.looked() == before["looked"]
    assert networks(story) == before["networks"]


def test_machines_become_a_cluster_whose_network_it_is(story: Story) -> None:
    assert all(changed(site(story)).values())
    pods = json.loads(story.kubectl("get", "pods", "--all-namespaces", "--output=json"))["items"]
    names = {pod["metadata"]["name"] for pod in pods}
    assert not any("flannel" in name for name in names)
    agents = sorted(name for name in names if name.startswith("cilium-") and "operator" not in name)
    assert len(agents) == 2
    for each in agents:
        words = ("--namespace=kube-system", "exec", each, "--container=cilium-agent", "--")
        assert story.kubectl(*words, "cilium-dbg", "status", "--brief").strip() == "OK"


def apply(story: Story) -> None:
    """A server on the second machine, and on the first one who asks it by its Service's name."""
    there = PODS.replace("IMAGE", machines.BUSYBOX).replace("machine-3", FIRST)
    manifest = story.folder / "pods.yaml"
    # the first machine is a control plane, where nothing else runs unless it tolerates that
    tolerant = "spec:\n  tolerations: [{operator: Exists}]\n  nodeSelector:"
    manifest.write_text(there.replace("spec:\n  nodeSelector:", tolerant))
    argv = ["kubectl", f"--kubeconfig={story.folder / 'kubeconfig'}", "apply", "-f", str(manifest)]
    processes.run(story.made.engine.inside(argv), env=story.made.engine.environment)


def test_pods_reach_each_other_by_name(story: Story) -> None:
    apply(story)
    story.await_that(*ASK)


def test_a_second_run_changes_nothing(story: Story) -> None:
    assert changed(site(story)) == NOTHING
    assert changed(site(story, check=True)) == NOTHING


def test_another_network_is_refused(story: Story) -> None:
    told = story.site()["error"]
    assert "was made with Cilium, and cluster_network is flannel" in told["what"]


def test_a_machine_that_was_restarted_comes_back(story: Story) -> None:
    story.made.restart(SECOND)
    story.await_that("delete", "pod", "server", "--force")
    apply(story)
    story.await_that(*ASK)
    assert changed(site(story)) == NOTHING


def test_reset_leaves_the_machines_as_they_were(story: Story, before: dict[str, Any]) -> None:
    said = len((story.folder / "ansible.log").read_text())
    recap = story.play("reset.yml")
    assert {host: counts["failed"] for host, counts in recap.items()} == NOTHING
    assert "left there" not in (story.folder / "ansible.log").read_text()[said:]
    assert networks(story) == before["networks"]
    assert story.looked() == before["looked"]


@pytest.fixture(scope="module")
def there(
    docker: Engine, files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reached]:
    made = Reached(docker, tmp_path_factory.mktemp("vm"))
    yield made
    made.run(HARNESS, "down", "--target", "vm", "--name", NAME)


def test_data_flow_on_it_a_second_up_changes_nothing_and_down_leaves_nothing(
    there: Reached, files: Path
) -> None:
    before = parameters()
    given = {
        "cluster_source": "files", "cluster_files": str(files), "cluster_network": "cilium",
        "cluster_cilium_version": programs.CILIUM,
        "cluster_cilium_values": json.dumps(cilium.values()),
    }  # fmt: skip
    up = [HARNESS, "up", "--target", "vm", "--name", NAME, "--create", "2", "--image", images.HOST]
    up += [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    first = there.run(*up, "--json")
    assert first.returncode == 0, first.stdout + first.stderr
    proved = {each["signal"] for each in json.loads(first.stdout)["proof"]}
    assert proved == {"traces", "metrics", "logs"}
    again = there.run(*up, "--json")
    assert again.returncode == 0, again.stdout + again.stderr
    assert not json.loads(again.stdout)["changed"]
    down = there.run(HARNESS, "down", "--target", "vm", "--name", NAME, "--verify")
    assert down.returncode == 0, down.stdout + down.stderr
    assert "Nothing is left." in down.stdout
    assert parameters() == before
