"""What Hubble costs where Cilium is a cluster's network: an option of its agent, turned on and off.

Cilium enforces network policies, which the plain network of the other stories does not: so those of
the stack are held here, too.
Cilium, its chart and its datapath are real; `cilium` says how they are had.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator

import pytest

from harness.linux import processes
from harness.plan.parts import PARTS, are_whole
from tests.cluster import cilium
from tests.cluster.engine import Engine
from tests.cluster.reached import HARNESS, SECONDS
from tests.cluster.test_evaluate import There

pytestmark = pytest.mark.cluster

NAME = "harness-hubble"
WORKER = f"{NAME}-worker"
MAKE = """
import sys
from harness.targets.kubernetes import chosen
from harness.targets.kubernetes.kind import Kind, Wanted
kind = Kind(sys.argv[1], chosen.home(sys.argv[1]))
kind.create(Wanted(sys.argv[1], 2, sys.argv[2]), print) if sys.argv[2:] else kind.delete()
"""
EXPERIMENT = """
workloads = ["go"]
blocks = 2
warmup_seconds = 0.5
warmup_limit_seconds = 4.0
settle_seconds = 0.5
switched_seconds = 6.0
steady_seconds = 3.0
metered_seconds = 1.0
calibration_seconds = 0.5
replacements = 0
seed = 5
[loads.go]
rate = 200
connections = 4
[[arms]]
name = "baseline"
[[arms]]
name = "hubble"
collectors = ["hubble"]
"""
REACHED = """
import socket, sys
for each in sys.argv[1:]:
    host, port = each.split(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
        print(each, "open")
    except TimeoutError:
        print(each, "silent")
"""
PORTS = {"jaeger": 16686, "prometheus": 9090, "victorialogs": 9428, "otelcol": 4318, "go": 8080}
OPTIONS = ("DropNotification", "PolicyVerdictNotification", "TraceNotification")


class Cilium(There):
    """The cluster, and Cilium's agent on the worker."""

    @property
    def pod(self) -> str:
        selector = ("--selector=k8s-app=cilium", f"--field-selector=spec.nodeName={WORKER}")
        words = ("get", "pods", "-n", "kube-system", *selector, "--output=name")
        return self.kubectl(*words).strip()

    def agent(self, *words: str) -> str:
        """What a command in it prints."""
        said = ("exec", "-n", "kube-system", self.pod, "-c", "cilium-agent", "--", *words)
        return self.kubectl(*said)

    def told(self) -> dict[str, str]:
        """What its datapath tells Hubble of."""
        said = self.agent("cilium-dbg", "config")
        found = dict(re.findall(r"^(\w+)\s*:\s*(\w+)", said, re.MULTILINE))
        return {name: found[name] for name in OPTIONS}

    def measured(self, name: str) -> list[str]:
        """The command that measures it on the worker."""
        file = self.folder / f"{name}.toml"
        file.write_text(EXPERIMENT)
        words = (str(file), "--run", name, "--reports", str(self.folder))
        return [HARNESS, "evaluate", *words, "--target", f"kind,name={NAME},node={WORKER}"]

    def it_is_as_it_was(self) -> None:
        assert set(self.told().values()) == {"Enabled"}
        turned = ("get", "pods", "--all-namespaces", "--selector=harness/turned")
        assert not self.kubectl(*turned, "--output=name")
        assert "harness-evaluate" not in self.kubectl("get", "namespaces", "--output=name")


@pytest.fixture(scope="module")
def there(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cilium]:
    """Two nodes of kind, whose network is Cilium's."""
    if not os.environ.get("HARNESS_HUBBLE"):
        pytest.skip("`make test-hubble` builds and runs it: ten minutes the first time")
    if not cilium.is_made(docker):
        pytest.skip("its image is not in the cache: `make test-hubble` builds it")
    made = Cilium(docker, tmp_path_factory.mktemp("reports"), [])
    home = made.folder / "state/harness/kind" / NAME
    try:
        made.run(sys.executable, "-c", MAKE, NAME, cilium.NODE, check=True)
        made.where = [f"--kubeconfig={home}/kubeconfig", f"--context=kind-{NAME}"]
        # where this machine has cgroup v2 beside v1, nodes have had it since they were complete
        for words in (("restart", "daemonset/cilium"), ("status", "daemonset/cilium")):
            made.kubectl("rollout", words[0], words[1], "-n", "kube-system")
        # every packet is a flow: a load that keeps its connections makes few others
        made.agent("cilium-dbg", "config", "MonitorAggregationLevel=None")
        yield made
    finally:
        made.run(sys.executable, "-c", MAKE, NAME, check=True)


def test_policies_let_through_what_the_stack_needs_and_no_more(there: Cilium) -> None:
    """The proof of `up` goes through all that is needed; a stranger reaches nothing."""
    options = ("--target", "kind", "--name", NAME)
    done = there.run(HARNESS, "up", *options, "--dashboards", "none", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(json.loads(done.stdout)["proof"]) == 3
    found = ["get", "daemonset", "agents", "-n", "harness", "-o"]
    image = there.kubectl(*found, "jsonpath={.spec.template.spec.containers[0].image}")
    sleeper = ("--image-pull-policy=IfNotPresent", "--command", "--", "sleep", "600")
    there.kubectl("run", "stranger", f"--image={image}", "-n", "default", *sleeper)
    there.kubectl("wait", "pod/stranger", "-n", "default", "--for=condition=Ready", "--timeout=60s")
    asked = [f"{name}.harness:{port}" for name, port in PORTS.items()]

    def reached(namespace: str, pod: str) -> dict[str, str]:
        words = ("exec", "-n", namespace, pod, "--", "python3", "-c", REACHED, *asked)
        lines = [line.split() for line in there.kubectl(*words).splitlines()]
        return {place.split(".")[0]: how for place, how in lines}

    silent = dict.fromkeys(PORTS, "silent")
    assert reached("harness", "deployment/flask") == {**silent, "otelcol": "open", "go": "open"}
    assert reached("default", "pod/stranger") == silent
    there.kubectl("delete", "pod", "stranger", "-n", "default", "--grace-period=1")
    way = json.loads(done.stdout)["kubeconfig"]
    gone = there.run(HARNESS, "down", "--target", "existing", "--kubeconfig", way, "--verify")
    assert gone.returncode == 0, gone.stdout + gone.stderr


def test_hubble_is_an_arm_and_is_as_before_in_the_end(there: Cilium) -> None:
    """It sees the requests while it is on; the agent's whole CPU is not its cost."""
    there.it_is_as_it_was()
    done = there.run(*there.measured("hubble"))
    assert done.returncode in (0, 3), done.stdout + done.stderr
    folders = sorted((there.folder / "hubble/trials").glob("*-hubble-*"))
    found = [json.loads((folder / "trial.json").read_text()) for folder in folders]
    assert [each["status"] for each in found] == ["ok"] * 2, [each["reason"] for each in found]
    for folder, each in zip(folders, found, strict=True):
        parts = list(map(json.loads, (folder / "windows.jsonl").read_text().splitlines()))
        assert are_whole([part["on"] for part in parts])
        assert len(parts) == PARTS
        assert all(part["meters"]["cpu.agent"] > 0 for part in parts)
        values = {v["metric"]: v["value"] for v in each["values"]}
        assert values["steady_events"] > values["steady_requests"]
        assert values["beside_cpu_seconds"] > 0
        untold = {"steady_agent_cpu_seconds", "agent_pss_bytes", "map_bytes", "bpf_run_count"}
        assert not untold & set(values)
    assert there.row("hubble", "hubble", "agent_us")["estimate"] > 0
    row = there.row("hubble", "hubble", "events_per_request")
    assert row["estimate"] > 1
    assert row["low"] is None  # flows of others are among them
    assert there.row("hubble", "hubble", "workload_cpu_us")["level"] > 0
    there.it_is_as_it_was()


def test_it_is_turned_back_after_the_run_was_killed(there: Cilium) -> None:
    with there.started(there.measured("killed")) as (process, log):
        there.await_(lambda: "hubble (switched)" in log.read_text(), log.read_text)
        os.killpg(process.pid, signal.SIGKILL)
        processes.ended(process, SECONDS)
    done = there.run(HARNESS, "clean", "--target", f"kind,name={NAME},node={WORKER}")
    assert done.returncode == 0, done.stdout + done.stderr
    there.it_is_as_it_was()
