"""The chart where agents send to somebody else's backends: nothing keeps data, and a Secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.linux import processes
from harness.targets.kubernetes import external, values
from harness.targets.kubernetes import helm as product
from harness.targets.kubernetes.external import External

pytestmark = pytest.mark.cluster


def rendered(helm: str, folder: Path, own: External) -> list[dict[str, Any]]:
    made = values.values(external.stack(own), "localhost/node:1", of_agents=external.agents(own))
    file = folder / "values.json"
    file.write_text(json.dumps(made))
    argv = [helm, "template", "harness", str(product.CHART), "--kube-version=1.34.4"]
    done = processes.run([*argv, f"--values={file}"])
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def environment(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return {each["name"]: each for each in agents(objects)["env"]}


def agents(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (daemonset,) = (each for each in objects if each["kind"] == "DaemonSet")
    (container,) = daemonset["spec"]["template"]["spec"]["containers"]
    return dict(container)


def test_it_has_agents_services_and_load_and_nobody_reads_pods(helm: str, tmp_path: Path) -> None:
    found = rendered(helm, tmp_path, External("http://otelcol.telemetry:4318"))
    kinds = ("Deployment", "DaemonSet")
    made = {each["metadata"]["name"] for each in found if each["kind"] in kinds}
    assert made == {"agents", "flask", "go", "load"}
    assert not [each for each in found if each["kind"] in ("Secret", "ClusterRole")]
    said = [each for each in agents(found)["args"] if each.startswith("--otlp")]
    assert said == ["--otlp=http://otelcol.telemetry:4318"]
    assert "OTEL_EXPORTER_OTLP_HEADERS" not in environment(found)


def test_what_is_sent_with_a_post_is_read_from_a_secret(helm: str, tmp_path: Path) -> None:
    found = rendered(helm, tmp_path, External("https://otlp.example", secret="key"))
    assert environment(found)["OTEL_EXPORTER_OTLP_HEADERS"] == {
        "name": "OTEL_EXPORTER_OTLP_HEADERS",
        "valueFrom": {"secretKeyRef": {"name": "key", "key": "headers"}},
    }
