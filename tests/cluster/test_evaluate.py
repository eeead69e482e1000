"""Evaluations on a node of a real cluster: known costs, services there, faults; nothing is left.

The tests of this file share one cluster, which the first makes and the last deletes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.linux import processes
from harness.linux.processes import Process
from tests.cluster import images
from tests.cluster.engine import Engine
from tests.cluster.reached import HARNESS, SECONDS, Reached

pytestmark = pytest.mark.cluster

NAME, SPACE = "harness-measured", "harness-evaluate"
WORKER, OTHER = f"{NAME}-worker", f"{NAME}-control-plane"
KNOWN_NS = 500_000
EXPERIMENT = f"""
workloads = ["plain"]
blocks = 2
warmup_seconds = 0.5
warmup_limit_seconds = 2.0
settle_seconds = 0.3
switched_seconds = 6.0
steady_seconds = 1.0
metered_seconds = 1.0
calibration_seconds = 0.5
replacements = 0
seed = 5
[loads.plain]
rate = 200
connections = 4
[[arms]]
name = "baseline"
[[arms]]
name = "known"
collectors = ["inject:ns={KNOWN_NS}"]
"""
GO = "app.kubernetes.io/name=go"
POD = "jsonpath={.items[0].metadata.uid} {.items[0].spec.nodeName}"
MINUTE = 60.0
TRIES = 5


@dataclass
class There(Reached):
    """The cluster by kubectl's options, and evaluations in it."""

    where: list[str]

    def kubectl(self, *words: str) -> str:
        return self.run("kubectl", *self.where, *words, check=True).stdout

    def evaluate(self, name: str, text: str, *words: str, node: str = WORKER) -> list[str]:
        """The command that measures an experiment on a node, as a run of this name."""
        file = self.folder / f"{name}.toml"
        file.write_text(text)
        words = ("--target", f"kind,name={NAME},node={node}", *words)
        return [
            HARNESS,
            "evaluate",
            str(file),
            "--run",
            name,
            "--reports",
            str(self.folder),
            *words,
        ]

    def report(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / name / "report.json").read_text())
        return found

    def row(self, name: str, arm: str, metric: str) -> dict[str, Any]:
        rows = self.report(name)["rows"]
        (found,) = (row for row in rows if (row["arm"], row["metric"]) == (arm, metric))
        return dict(found)

    @contextlib.contextmanager
    def started(self, argv: list[str]) -> Iterator[tuple[Process, Path]]:
        log = self.folder / f"{time.monotonic_ns()}.log"
        process = processes.spawn(self.engine.inside(argv), log=log, env=self.environment)
        try:
            yield process, log
        finally:
            processes.stop(process, grace_seconds=60)

    def await_(self, holds: Callable[[], object], what: Callable[[], str]) -> None:
        deadline = time.monotonic() + 180
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain: {what()}"
            time.sleep(0.2)

    def nothing_is_left(self) -> None:
        """No namespace, nothing moved, and on the nodes no cgroup and no journal of ours."""
        assert SPACE not in self.kubectl("get", "namespaces", "--output=name")
        moved = ("get", "daemonsets", "--all-namespaces", "--selector=harness/moved")
        assert not self.kubectl(*moved, "--output=name")
        for node in (WORKER, OTHER):
            words = ("docker", "exec", node)
            run = self.run(*words, "ls", "/run", check=True).stdout.split()
            assert "harness" not in run
            cgroups = ("find", "/sys/fs/cgroup", "-type", "d", "-path", "*/harness/run-*")
            found = self.run(*words, *cgroups)
            assert not found.stdout.split(), found.stderr


@pytest.fixture(scope="module")
def there(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[There]:
    up = (HARNESS, "up", "--target", "kind", "--name", NAME, "--nodes", "2")
    made = There(docker, tmp_path_factory.mktemp("reports"), [])
    try:
        done = made.run(*up, "--image", images.NODE, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads(done.stdout)
        made.where = [f"--kubeconfig={found['kubeconfig']}", f"--context={found['context']}"]
        yield made
    finally:
        down = made.run(HARNESS, "down", "--target", "kind", "--name", NAME, "--verify")
        assert down.returncode == 0, down.stdout + down.stderr


def test_a_known_cost_comes_back_from_a_pod(there: There) -> None:
    """The service is a new pod in each block."""
    done = there.run(*there.evaluate("known", EXPERIMENT))
    assert done.returncode == 0, done.stdout + done.stderr
    row = there.row("known", "known", "workload_cpu_us")
    assert row["low"] > 0.5 * KNOWN_NS / 1000
    assert row["high"] < 2 * KNOWN_NS / 1000
    assert any("share this machine's kernel" in each for each in there.report("known")["warnings"])
    there.nothing_is_left()


def test_a_service_that_runs_there_is_measured_and_left(there: There) -> None:
    """Its pod is the same before and after; the load comes from another node."""
    before = there.kubectl("get", "pods", "-n", "harness", "-l", GO, "-o", POD)
    node = before.split()[1]
    other = OTHER if node == WORKER else WORKER
    text = EXPERIMENT.replace("plain", "own").replace(f"inject:ns={KNOWN_NS}", "http")
    # clocks are compared through the API: that takes a millisecond
    text = f"window_seconds = 0.1\nguard_seconds = 0.02\n{text}"
    words = ("--workload", "harness/go", "--load-target", f"kind,name={NAME},node={other}")
    done = there.run(*there.evaluate("there", text, *words, node=node))
    assert done.returncode == 0, done.stdout + done.stderr
    assert there.row("there", "known", "workload_cpu_us")["level"] > 0
    assert there.row("there", "known", "coverage_percent[requests]")["estimate"] > 99
    assert there.report("there")["load_node"]["target"].endswith(f"node={other}")
    assert there.kubectl("get", "pods", "-n", "harness", "-l", GO, "-o", POD) == before
    there.nothing_is_left()


def test_a_daemonset_is_installed_for_half_a_trial_and_put_back(there: There) -> None:
    """What runs on the other node is never restarted; what it costs itself is known."""
    template = (
        "get", "daemonset", "-n", "harness", "agents", "-o",
        "jsonpath={.spec}{.metadata.labels}",
    )  # fmt: skip
    on_other = (
        "get", "pods", "-n", "harness", "-l", "app.kubernetes.io/name=agents",
        f"--field-selector=spec.nodeName={OTHER}", "-o", "jsonpath={.items[*].metadata.uid}",
    )  # fmt: skip
    before = there.kubectl(*template), there.kubectl(*on_other)
    text = EXPERIMENT.replace(f"inject:ns={KNOWN_NS}", "daemonset:harness/agents")
    done = there.run(*there.evaluate("moved", text))
    assert done.returncode in (0, 3), done.stdout + done.stderr
    found = [
        json.loads(path.read_text())
        for path in sorted((there.folder / "moved/trials").glob("*-known-*/trial.json"))
    ]
    assert [each["status"] for each in found] == ["ok"] * 4, [each["reason"] for each in found]
    values = {(v["metric"], v["labels"].get("collector")) for each in found for v in each["values"]}
    for metric in ("agent_pss_bytes", "map_bytes", "steady_agent_cpu_seconds", "bpf_run_count"):
        assert (metric, "agents-harness") in values
    assert (there.kubectl(*template), there.kubectl(*on_other)) == before
    there.nothing_is_left()


def test_a_daemonset_is_put_back_after_the_run_was_killed(there: There) -> None:
    template = ("get", "daemonset", "-n", "harness", "agents", "-o", "jsonpath={.spec}")
    before = there.kubectl(*template)
    text = EXPERIMENT.replace(f"inject:ns={KNOWN_NS}", "daemonset:harness/agents")
    with there.started(there.evaluate("stopped", text)) as (process, log):
        there.await_(lambda: "known (switched)" in log.read_text(), log.read_text)
        os.killpg(process.pid, signal.SIGKILL)
        processes.ended(process, SECONDS)
    assert there.kubectl(*template) != before
    done = there.run(HARNESS, "clean", "--target", f"kind,name={NAME},node={WORKER}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert there.kubectl(*template) == before
    there.nothing_is_left()


def test_a_service_pod_that_is_deleted_ends_its_block_and_no_more(there: There) -> None:
    with there.started(there.evaluate("deleted", EXPERIMENT)) as (process, log):
        there.await_(lambda: "known (switched)" in log.read_text(), log.read_text)
        there.kubectl(
            "delete", "pods", "-n", SPACE, "-l", "app.kubernetes.io/name=harness-service",
            "--grace-period=0", "--force",
        )  # fmt: skip
        assert processes.ended(process, SECONDS) == 2, log.read_text()  # some were not measured
    found = there.report("deleted")
    broken = json.loads((there.folder / "deleted" / "run.json").read_text())["broken_blocks"]
    assert [each["block"] for each in broken] == [0]
    assert not found["complete"]
    there.nothing_is_left()


def test_a_node_pod_that_is_deleted_is_made_again(there: There) -> None:
    with there.started(there.evaluate("replaced", EXPERIMENT)) as (process, log):
        there.await_(lambda: "known (switched)" in log.read_text(), log.read_text)
        there.kubectl(
            "delete", "pods", "-n", SPACE, "-l", "app.kubernetes.io/name=harness-node",
            "--grace-period=1",
        )  # fmt: skip
        assert processes.ended(process, SECONDS) == 2, log.read_text()  # some were not measured
    kept = there.folder / "replaced" / "trials"
    second = [json.loads(path.read_text())["status"] for path in kept.glob("*-b1-*/trial.json")]
    assert second == ["ok"] * 3
    there.nothing_is_left()


def test_an_api_that_stands_still_for_a_minute_costs_a_block_at_most(there: There) -> None:
    """What was measured is kept, what was not is named, and the run goes on to its end."""
    status = (HARNESS, "status", "--target", "kind", "--name", NAME)
    run = there.folder / "still"
    with there.started(there.evaluate("still", EXPERIMENT)) as (process, log):
        there.await_(lambda: "known (switched)" in log.read_text(), log.read_text)
        with there.still(OTHER):
            began = time.monotonic()
            said = there.run(*status)
            time.sleep(max(0.0, MINUTE - (time.monotonic() - began)))
        code = processes.ended(process, SECONDS)
    print(log.read_text(), said.stderr)
    assert said.returncode == 2
    assert "Error: The cluster's API" in said.stderr
    assert "Traceback" not in said.stderr + log.read_text()
    kept = {path: path.stat().st_mtime_ns for path in run.glob("trials/*/trial.json")}
    if code != 0:
        assert f"harness evaluate --resume {run}" in log.read_text()
    for _ in range(TRIES):  # a machine that is busy with something else spoils trials, too
        if code != 0:
            done = there.run(HARNESS, "evaluate", "--resume", str(run))
            print(done.stdout, done.stderr)
            code = done.returncode
    found = [json.loads(path.read_text()) for path in run.glob("trials/*/trial.json")]
    ok = [each for each in found if each["status"] == "ok"]
    assert code == 0, [each["reason"] for each in found]
    assert len(ok) == 6, [each["reason"] for each in found]
    assert {path for path, at in kept.items() if path.stat().st_mtime_ns == at}
    assert there.report("still")["complete"]
    there.await_(lambda: there.run(*status).returncode == 0, lambda: there.run(*status).stdout)
    there.nothing_is_left()


def test_what_a_killed_evaluation_left_is_removed_by_the_next(there: There) -> None:
    with there.started(there.evaluate("killed", EXPERIMENT)) as (process, log):
        there.await_(lambda: "known (switched)" in log.read_text(), log.read_text)
        os.killpg(process.pid, signal.SIGKILL)
        processes.ended(process, SECONDS)
    assert there.kubectl("get", "pods", "-n", SPACE, "--output=name").split()
    done = there.run(*there.evaluate("after", EXPERIMENT.replace("blocks = 2", "blocks = 1")))
    assert done.returncode == 0, done.stdout + done.stderr
    there.nothing_is_left()


def test_what_cannot_be_measured_there_is_said_before_anything_is_made(there: There) -> None:
    for words, said in (
        (("--workload", "java"), "no Java"),
        (("--workload", "harness/absent"), "no workload 'absent'"),
    ):
        text = EXPERIMENT if "java" in words[1] else EXPERIMENT.replace("plain", "own")
        done = there.run(*there.evaluate(f"refused-{words[1].replace('/', '-')}", text, *words))
        assert done.returncode == 2
        assert said in " ".join(done.stderr.split())
    there.nothing_is_left()
