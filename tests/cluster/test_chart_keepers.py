"""The chart with who keeps each signal chosen: Parca, to which agents write; Tempo and Loki."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.linux import processes
from harness.stack import catalog
from harness.stack.config.description import KEEPS
from harness.targets.kubernetes import helm as product
from harness.targets.kubernetes import values

pytestmark = pytest.mark.cluster

NAMED = "app.kubernetes.io/name"
CHOSEN = {
    "profiles": {**KEEPS, "profiles": "parca"},
    "tempo and loki": {**KEEPS, "traces": "tempo", "logs": "loki"},
}


@pytest.fixture(scope="module", params=[*CHOSEN])
def keeps(request: pytest.FixtureRequest) -> Mapping[str, str]:
    return CHOSEN[request.param]


@pytest.fixture(scope="module")
def given(keeps: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("chart") / "values.json"
    stack = values.stack("kind-shop", grafana=True, keeps=keeps)
    made.write_text(json.dumps(values.values(stack, "localhost/node:1")))
    return made


def rendered(helm: str, given: Path, *more: str) -> dict[tuple[str, str], dict[str, Any]]:
    """What it makes, by kind and name."""
    argv = [helm, "template", "harness", str(product.CHART), "--kube-version=1.34.4", *more]
    done = processes.run([*argv, f"--values={given}"])
    made = [each for each in yaml.safe_load_all(done.stdout) if each]
    return {(each["kind"], each["metadata"]["name"]): each for each in made}


def container(made: dict[tuple[str, str], dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = made[kind, name]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def heard(made: dict[tuple[str, str], dict[str, Any]], name: str) -> set[str]:
    """Who may reach a component."""
    (rule,) = made["NetworkPolicy", name]["spec"]["ingress"]
    (expression,) = rule["from"][0]["podSelector"]["matchExpressions"]
    return set(expression["values"])


def test_helm_lints_it(helm: str, given: Path) -> None:
    argv = [helm, "lint", "--strict", str(product.CHART), "--kube-version=1.34.4"]
    processes.run([*argv, f"--values={given}"])


def test_each_keeper_is_a_pod_with_a_service_and_a_policy(
    helm: str, given: Path, keeps: Mapping[str, str]
) -> None:
    made = rendered(helm, given)
    for name in keeps.values():
        record = catalog.known()[name]
        own = container(made, "Deployment", name)
        assert own["image"] == record.image
        assert own["securityContext"]["readOnlyRootFilesystem"]
        assert own["resources"]["limits"]["memory"] == f"{record.memory_mb}Mi"
        pod = made["Deployment", name]["spec"]["template"]["spec"]["securityContext"]
        assert pod["runAsUser"] == (record.user or 65534)
        assert pod["runAsNonRoot"]
        ports = {each["port"] for each in made["Service", name]["spec"]["ports"]}
        assert ports == set(record.ports.values())
        assert own["readinessProbe"]["httpGet"]["port"] in ports
        writer = "agents" if record.signal == "profiles" else "otelcol"
        assert {writer, "prometheus", "grafana"} <= heard(made, name)
    others = {name for signal in KEEPS for name in map(str, _others(signal, keeps))}
    assert not {("Deployment", name) for name in others} & made.keys()


def _others(signal: str, keeps: Mapping[str, str]) -> list[str]:
    return [each.name for each in catalog.keepers(signal) if each.name != keeps[signal]]


def test_agents_write_profiles_and_may(helm: str, given: Path, keeps: Mapping[str, str]) -> None:
    made = rendered(helm, given)
    agent = container(made, "DaemonSet", "agents")
    names = agent["command"][1].split("+")
    assert ("profile" in names) == ("profiles" in keeps)
    assert {"flows", "guard", "http"} <= set(names)
    assert ("--parca=http://parca:7070" in agent["args"]) == ("profiles" in keeps)
    if "profiles" not in keeps:
        assert heard(made, "prometheus") == {"otelcol", "prometheus", "grafana", "tempo"}
        return
    assert "/run/agent/profile.sock" in agent["readinessProbe"]["exec"]["command"]
    assert heard(made, "parca") == {"agents", "prometheus", "grafana"}
    assert "agents" not in heard(made, "prometheus")
    parca = container(made, "Deployment", "parca")
    assert parca["command"] == ["/parca"]  # its image has no entry point
    assert "command" not in container(made, "Deployment", "prometheus")


def test_what_is_kept_in_memory_gets_no_volume(
    helm: str, given: Path, keeps: Mapping[str, str]
) -> None:
    made = rendered(helm, given, "--set=storage.size=10Gi")
    claims = {name for kind, name in made if kind == "PersistentVolumeClaim"}
    assert claims == {"otelcol", "grafana", *keeps.values()} - {"parca"}
    if "profiles" in keeps:
        volumes = made["Deployment", "parca"]["spec"]["template"]["spec"]["volumes"]
        assert {"name": "data", "emptyDir": {}} in volumes


def test_a_person_may_still_add_collectors(helm: str, given: Path) -> None:
    more = '--set-json=agents.collectors.profile=["--profiles=on"]'
    agent = container(rendered(helm, given, more), "DaemonSet", "agents")
    assert "--profiles=on" in agent["args"]
    assert "--parca=http://parca:7070" not in agent["args"]
