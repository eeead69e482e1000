"""A real cluster of kind from nothing to nothing: up, up again, status, a fault, a bundle, down.

The tests of this file are one story and need each other, in their order.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.linux.processes import Completed
from tests.cluster import guest, images, volumes
from tests.cluster.engine import Engine
from tests.cluster.reached import HARNESS, Reached

pytestmark = pytest.mark.cluster

NAME = "harness-test"
WORKER = f"{NAME}-worker"
Run = Callable[..., Completed]

MISSING = """
from pathlib import Path
from harness.errors import HarnessError
from harness.targets.kubernetes import chosen, helm, images, kind, values
from harness.targets.kubernetes.kind import Kind
own = Kind({name!r}, chosen.home({name!r}))
cluster = kind.cluster(own, "harness")
given = values.values(values.stack(cluster.context), images.name())
given["components"]["jaeger"]["image"] = "localhost/absent:1"
try:
    helm.install(cluster, given)
except HarnessError as error:
    print(error)
"""

STRICT = """
from pathlib import Path
from harness.targets.kubernetes import chosen, helm, kind
from harness.targets.kubernetes.kind import Kind
cluster = kind.cluster(Kind({name!r}, chosen.home({name!r})), "harness")
file = Path({file!r})
made = helm._helm(cluster, "get", "manifest", helm.RELEASE).stdout
file.write_text(made.replace({before!r}, {after!r}))
words = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict"]
done = cluster.run(*words, "--output=name", f"--filename={{file}}", check=False)
print(done.stdout, done.stderr)
"""

KEPT = """
import sys, time
from pathlib import Path
from harness.stack import readback
from harness.targets.kubernetes import proof, values
from harness.targets.kubernetes.kubectl import Cluster
mark, *send = sys.argv[1:]
cluster = Cluster({context!r}, "second", Path({kubeconfig!r}))
with proof.reached(cluster, values.stack(cluster.context)) as here:
    for signal in send:
        readback.send(here, signal, mark)
    lacking, until = set(here.keeps), time.monotonic() + 60
    while lacking and time.monotonic() < until:
        lacking -= {{each for each in lacking if readback.found(here, each, mark)}}
        time.sleep(0.2)
print(sorted(lacking))
"""

OPEN = """
import signal, time, urllib.request
from harness.linux import processes
from pathlib import Path
log = Path({log!r})
opened = processes.spawn([{harness!r}, "open", "prometheus", "--target", "kind", "--name", {name!r},
                          "--no-browser", "--port", "19090"], log=log)

def answers():
    try:
        with urllib.request.urlopen("http://127.0.0.1:19090/-/ready", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False

def await_that(what):
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)

try:
    await_that(answers)
    there = {kubectl!r}.split()
    processes.run([*there, "delete", "pod", "-l", "app.kubernetes.io/name=prometheus", "--wait"],
                  timeout=120)
    await_that(lambda: "is reached again" in log.read_text() and answers())
    opened.send_signal(signal.SIGINT)
    assert opened.wait(30) == 0, log.read_text()
    assert not answers()
finally:
    processes.stop(opened)
print(log.read_text())
"""

SEEN = """
import secrets, time
from harness.targets.kubernetes import chosen, kind, proof, values
from harness.targets.kubernetes.kind import Kind
cluster = kind.cluster(Kind({name!r}, chosen.home({name!r})), "harness")
marks = {{service: secrets.token_hex(8) for service in ("flask", "go")}}  # in this order
with proof.reached(cluster, values.stack(cluster.context)) as here:
    for service, mark in marks.items():
        proof._make_request(cluster, proof.Asked(service), mark)
    until = time.monotonic() + 60
    while not proof._has_span(here, marks["go"], {{}}) and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(5)  # the agents send what they have every three
    print([service for service, mark in marks.items() if proof._has_span(here, mark, {{}})])
"""

LOAD = """
from pathlib import Path
from harness.targets.kubernetes import archive, chosen
from harness.targets.kubernetes.kind import Kind
archive.read(Path({file!r})).load_into(Kind({name!r}, chosen.home({name!r})), print)
"""


@pytest.fixture(scope="module")
def run(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a command where the cluster can be reached."""
    there = Reached(docker, tmp_path_factory.mktemp("kind"))

    def command(*words: str, check: bool = True) -> Completed:
        return there.run(*words, check=check)

    return command


def harness(run: Run, *words: str) -> Any:
    done = run(HARNESS, words[0], "--target", "kind", "--name", NAME, *words[1:], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_up_makes_a_cluster_and_proves_it(run: Run) -> None:
    made = harness(run, "up", "--image", images.NODE, "--json")
    assert made["changed"]
    assert {each["signal"] for each in made["proof"]} == {"traces", "metrics", "logs"}
    assert set(made["phases"]) >= {"cluster", "images", "installation", "proof"}
    assert "port-forward service/prometheus" in made["pages"]["Prometheus"]
    origin = made["origin"]
    assert origin["k8s.pod.name"].startswith("go-")
    assert (origin["k8s.namespace.name"], origin["k8s.deployment.name"]) == ("harness", "go")
    assert origin["service.name"] == "go"
    assert origin["service.instance.id"] == origin["container.id"]
    print(origin)
    print(made["phases"])


def test_a_second_up_changes_nothing(run: Run) -> None:
    assert not harness(run, "up", "--image", images.NODE, "--json")["changed"]
    assert harness(run, "status", "-o", "json")["release"]["version"] == 1


def test_status_tells_of_each_node_and_proves_it_again(run: Run) -> None:
    found = harness(run, "status", "-o", "json")
    assert found["ready"]
    assert [each["agents_ready"] for each in found["nodes"]] == [True] * 3
    assert all(each["heard_seconds"] < 60 for each in found["nodes"])
    assert set(found["proof"]) == {"traces", "metrics", "logs"}
    assert found["origin"]["k8s.deployment.name"] == "go"


def test_every_object_of_the_chart_is_of_the_form_that_the_api_asks_for(
    run: Run, tmp_path: Path
) -> None:
    """It drops what it does not know from a field on, unless it is asked to be strict."""

    def said(before: str = "", after: str = "") -> str:
        words = {"name": NAME, "file": str(tmp_path / "all.yaml"), "before": before, "after": after}
        return str(run(sys.executable, "-c", STRICT.format(**words)).stdout)

    taken = said().split()
    assert {"daemonset.apps/agents", "deployment.apps/go", "service/prometheus"} <= set(taken)
    assert all("/" in each for each in taken), taken
    assert "field not declared in schema" in said(
        "readOnlyRootFilesystem:", "readOnlyRootFilesystems:"
    )


def test_a_page_is_held_open_while_its_pod_is_replaced(run: Run, tmp_path: Path) -> None:
    made = harness(run, "up", "--image", images.NODE, "--json")
    kubectl = made["pages"]["Prometheus"].partition(" port-forward")[0]
    script = OPEN.format(
        log=str(tmp_path / "open.log"), harness=HARNESS, name=NAME, kubectl=kubectl
    )
    said = run(sys.executable, "-c", script, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.splitlines()[0] == "http://127.0.0.1:19090/"
    assert "is not reached any more" in said.stdout


def test_nodes_have_what_collectors_look_for(run: Run) -> None:
    for place in ("tracing/events", "debug/tracing"):
        run("docker", "exec", WORKER, "ls", f"/sys/kernel/{place}")
    run("docker", "exec", WORKER, "test", "-r", "/sys/kernel/btf/vmlinux")
    kept = run("docker", "exec", WORKER, "stat", "-f", "-c", "%T", "/sys/fs/bpf")
    assert kept.stdout.strip() == "bpf_fs"


def test_pods_have_a_cgroup_each(run: Run) -> None:
    root = "/sys/fs/cgroup"
    if run("docker", "exec", WORKER, "test", "-e", f"{root}/unified", check=False).returncode == 0:
        root += "/unified"
    words = ("find", root, "-name", "cgroup.controllers", "-path", "*pod*scope*")
    assert len(run("docker", "exec", WORKER, *words).stdout.splitlines()) > 1


def test_agents_see_selected_pods_and_what_the_proof_asks_and_no_others(run: Run) -> None:
    def seen() -> str:
        return str(run(sys.executable, "-c", SEEN.format(name=NAME)).stdout).strip()

    selected = ("--agent-namespaces", "shop", "--agent-pod-selector", "tier!=test")
    made = harness(run, "up", "--image", images.NODE, *selected, "--json")
    assert made["changed"]
    assert made["origin"]["k8s.deployment.name"] == "go"
    assert seen() == "['go']"
    assert harness(run, "up", "--image", images.NODE, "--json")["changed"]  # back to all pods
    assert seen() == "['flask', 'go']"
    assert harness(run, "status", "-o", "json")["ready"]


def test_an_image_that_is_missing_names_the_pod_and_what_to_do(run: Run) -> None:
    said = run(sys.executable, "-c", MISSING.format(name=NAME)).stdout
    assert "jaeger does not start: its pod jaeger-" in said
    assert "localhost/absent:1" in said
    assert "Put the image where the nodes reach it" in said
    assert harness(run, "status", "-o", "json")["ready"]  # it was rolled back


def test_a_bundle_is_taken_and_gives_a_node_what_it_lacks(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "harness.tar"
    made = json.loads(run(HARNESS, "bundle", str(file), "--json").stdout)
    assert not harness(run, "up", "--bundle", str(file), "--json")["changed"]
    image = next(each["name"] for each in made["images"] if "victoria" in each["name"])
    ctr = ("docker", "exec", WORKER, "ctr", "--namespace=k8s.io", "images")
    run(*ctr, "rm", image)
    assert image not in run(*ctr, "ls", "--quiet").stdout.split()
    said = run(sys.executable, "-c", LOAD.format(name=NAME, file=str(file))).stdout
    assert said.splitlines() == [f"loading 5 images from harness.tar into {WORKER}"]
    assert image in run(*ctr, "ls", "--quiet").stdout.split()
    print(f"the bundle has {made['size_bytes'] / 1e6:.0f} MB")
    file.unlink()  # pytest would keep it


def second(run: Run) -> list[str]:
    """What names the namespace `second` in the cluster as one that is there."""
    state = json.loads(run(HARNESS, "up", "--target", "kind", "--name", NAME, "--json").stdout)
    return ["--target", "existing", "--kubeconfig", state["kubeconfig"], "--namespace", "second"]


def test_agents_send_to_backends_of_somebody_else_who_are_asked(run: Run, tmp_path: Path) -> None:
    """The agents of the stack itself see nothing of that namespace: the others alone tell of it."""
    kubeconfig = second(run)[3]
    harness(run, "up", "--agent-excluded-namespaces", "guest", "--json")
    found = guest.story(run, kubeconfig, f"kind-{NAME}", tmp_path)
    first, status = found["first"], found["status"]
    assert {each["backend"] for each in first["proof"]} == {"jaeger", "prometheus", "victorialogs"}
    assert (first["changed"], first["pages"], found["again"]["changed"]) == (True, {}, False)
    assert first["origin"]["k8s.namespace.name"] == "guest"
    assert (status["ready"], set(status["proof"])) == (True, {"traces", "metrics", "logs"})
    assert {pod["component"] for pod in status["pods"]} == {"agents", "go", "flask", "load"}
    assert found["alone"]["proof"] == []
    assert min(each["acknowledged"] for each in (first, status, found["alone"])) > 0
    assert found["authorities"] > 10
    said = " ".join(found["wrong"].split())
    assert "cannot send what they have" in said
    assert "otelcol.harness:4319" in said
    assert "Nothing is left." in found["down"]


def test_volumes_keep_data_over_an_upgrade(run: Run, tmp_path: Path) -> None:
    words = second(run)
    kubectl = ["kubectl", f"--kubeconfig={words[3]}"]
    claims = [f"second/{name}" for name in ("otelcol", "prometheus", "jaeger", "victorialogs")]
    volumes.make(run, kubectl, WORKER, claims, tmp_path / "volumes.json")
    asked = ["--storage", volumes.SIZE, "--storage-class", volumes.CLASS]
    made = run(HARNESS, "up", *words, *asked, "--json", check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    assert len(json.loads(made.stdout)["proof"]) == 3
    kept = KEPT.format(context=f"kind-{NAME}", kubeconfig=words[3])
    mark = "5ec0" * 8
    script = (sys.executable, "-c", kept, mark)
    assert run(*script, "traces", "metrics", "logs").stdout.strip() == "[]"
    pods = [
        *kubectl,
        "get",
        "pods",
        "--namespace=second",
        "--output=jsonpath={.items[*].metadata.uid}",
    ]
    before = set(run(*pods).stdout.split())
    upgraded = run(HARNESS, "up", *words, "--retention", "48", "--json")  # nothing of volumes
    assert json.loads(upgraded.stdout)["changed"]
    assert not before & set(run(*pods, "--selector=app.kubernetes.io/name=jaeger").stdout.split())
    assert run(*script).stdout.strip() == "[]"


def test_a_full_volume_is_named(run: Run) -> None:
    words = second(run)
    volumes.fill(run, WORKER, "victorialogs")
    done = run(HARNESS, "status", *words, "-o", "json", check=False)
    volumes.empty(run, WORKER, "victorialogs")
    assert done.returncode == 2, done.stdout + done.stderr
    said = json.loads(done.stdout)["unproved"]
    assert "not found in victorialogs" in said
    assert "read-only" in said or "no space left" in said
    again = run(HARNESS, "status", *words, "-o", "json", check=False)
    assert again.returncode == 0, again.stdout + again.stderr


def test_a_cluster_that_is_there_loses_the_namespace_again(run: Run) -> None:
    gone = run(HARNESS, "down", *second(run), "--verify", check=False)
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert "Nothing is left." in gone.stdout
    asked = re.findall(r"asking (\S+) whether (\d+) BPF programs are gone", gone.stderr)
    assert len({node for node, _ in asked}) == 3, gone.stderr
    assert all(int(number) for _, number in asked), "agents that held none were asked for nothing"
    kubectl = ["kubectl", f"--kubeconfig={second(run)[3]}"]
    assert "harness-evaluate" not in run(*kubectl, "get", "namespaces").stdout
    assert harness(run, "status", "-o", "json")["ready"]


def test_down_leaves_nothing(run: Run, docker: Engine) -> None:
    done = run(HARNESS, "down", "--target", "kind", "--name", NAME, "--verify", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing is left." in done.stdout
    assert not docker.docker("ps", "--all", "--quiet").strip()
    assert not docker.docker("volume", "ls", "--quiet").strip()
    assert "kind" not in docker.docker("network", "ls", "--format", "{{.Name}}").split()
    again = run(HARNESS, "down", "--target", "kind", "--name", NAME)
    assert "Nothing is up there." in again.stdout
