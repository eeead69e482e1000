"""Profiles in a real cluster of kind: Parca is a pod, the agents write to it, `up` proves it.

The tests of this file are one story and need each other, in their order. Parca is built for them by
`make stack STACK=parca`; without it they are skipped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.linux.processes import Completed
from harness.stack import catalog
from tests import running_parca
from tests.cluster import images
from tests.cluster.engine import Engine
from tests.cluster.reached import HARNESS, Reached

pytestmark = pytest.mark.cluster

NAME = "harness-profiles"
SIGNALS = {"traces", "metrics", "logs", "profiles"}
Run = Callable[..., Completed]

FOUND = """
import json, time
from harness.stack import client
from harness.stack.config.parca import Parca
from harness.targets.kubernetes import chosen, keepers, kind, proof, values
from harness.targets.kubernetes.kind import Kind
cluster = kind.cluster(Kind({name!r}, chosen.home({name!r})), "harness")
stack = values.stack(cluster.context, keeps=keepers.settled({{"profiles": "parca"}}))
began, found, scraped = time.time_ns(), {{}}, []

def seen():
    return any(name.startswith("server+0x") for name in found) and scraped

with proof.reached(cluster, stack) as here:
    pods = proof._pods(cluster, "go")
    keeper, until = Parca(here.url("parca")), time.monotonic() + 60
    proof._keep_busy(cluster, here, proof.ONE)
    while not seen() and time.monotonic() < until:
        for instance in proof._instances(pods):
            found |= keeper.samples("service.instance.id", instance, began - 10**10)
        asked = {{"query": 'up{{job="parca"}} == 1'}}
        scraped = client.ask(here.url("prometheus") + "/api/v1/query", asked)["data"]["result"]
        time.sleep(1)
    uid = pods[0]["metadata"]["uid"]
    by_pod = keeper.samples("k8s.pod.uid", uid, began - 10**10)
    other = keeper.samples("k8s.pod.uid", "no-such-pod", began - 10**10)
print(json.dumps({{"found": found, "by_pod": by_pod, "other": other, "scraped": len(scraped)}}))
"""


@pytest.fixture(scope="module")
def run(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a command where the cluster can be reached; the cluster goes in the end."""
    running_parca.require()
    there = Reached(docker, tmp_path_factory.mktemp("profiles"))

    def command(*words: str, check: bool = True) -> Completed:
        return there.run(*words, check=check)

    yield command
    there.run(HARNESS, "down", "--target", "kind", "--name", NAME)


def harness(run: Run, *words: str) -> Any:
    done = run(HARNESS, words[0], "--target", "kind", "--name", NAME, *words[1:], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def up(run: Run, *words: str) -> Any:
    return harness(run, "up", "--image", images.NODE, "--dashboards", "none", *words, "--json")


def kubectl(run: Run, *words: str) -> str:
    made = up(run)["pages"]["Prometheus"].partition(" port-forward")[0]
    return str(run(*made.split(), *words).stdout)


def test_up_proves_profiles_as_each_other_signal(run: Run) -> None:
    made = up(run, "--nodes", "1", "--profiles", "parca")
    assert made["changed"]
    assert {each["signal"] for each in made["proof"]} == SIGNALS
    assert {each["backend"] for each in made["proof"]} >= {"parca", "prometheus"}
    assert "port-forward service/parca 7070" in made["pages"]["Parca"]
    print(made["phases"], made["proof"])


def test_a_second_up_changes_nothing_whether_it_says_so_again_or_not(run: Run) -> None:
    assert not up(run, "--profiles", "parca")["changed"]
    assert not up(run)["changed"]
    assert harness(run, "status", "-o", "json")["release"]["version"] == 1


def test_status_says_who_keeps_what_and_proves_it_again(run: Run) -> None:
    found = harness(run, "status", "-o", "json")
    assert found["ready"], found
    assert found["keeps"]["profiles"] == "parca"
    assert set(found["proof"]) == SIGNALS
    (pod,) = [each for each in found["pods"] if each["component"] == "parca"]
    assert (pod["ready"], pod["restarts"]) == (True, 0)
    assert pod["images"] == [catalog.known()["parca"].image]
    agents = [each for each in found["pods"] if each["component"] == "agents"]
    assert [each["restarts"] for each in agents] == [0]
    said = run(HARNESS, "status", "--target", "kind", "--name", NAME).stdout
    assert "profiles by Parca." in said
    assert "One request's profiles: found in parca after" in said


def test_a_function_of_the_service_is_found_by_its_container_and_its_pod(run: Run) -> None:
    done = run(sys.executable, "-c", FOUND.format(name=NAME), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    for found in (told["found"], told["by_pod"]):
        assert any(name.startswith("server+0x") for name in found), told
    assert told["other"] == {}
    assert told["scraped"] == 1


def test_a_bundle_carries_parca(run: Run, tmp_path: Any) -> None:
    file = tmp_path / "harness.tar"
    words = ("bundle", str(file), "--dashboards", "none", "--profiles", "parca", "--json")
    made = json.loads(run(HARNESS, *words).stdout)
    assert catalog.known()["parca"].image in {each["name"] for each in made["images"]}
    assert not harness(run, "up", "--bundle", str(file), "--dashboards", "none", "--json")[
        "changed"
    ]
    file.unlink()  # pytest would keep it


def test_nobody_keeps_them_any_more_if_so_asked(run: Run) -> None:
    made = up(run, "--profiles", "none")
    assert made["changed"]
    assert {each["signal"] for each in made["proof"]} == SIGNALS - {"profiles"}
    assert "parca" not in kubectl(run, "get", "deployments,services,networkpolicies", "-o", "name")
    agents = kubectl(run, "get", "daemonset/agents", "-o", "jsonpath={..command}{..args}")
    assert "parca" not in agents
    assert "flows+guard+http" in agents


def test_down_leaves_nothing(run: Run, docker: Engine) -> None:
    done = run(HARNESS, "down", "--target", "kind", "--name", NAME, "--verify", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing is left." in done.stdout
    assert not docker.docker("ps", "--all", "--quiet").strip()
