"""The values of manifests/production: the pinned charts know each key, the catalog is right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.stack import catalog
from harness.stack.config import otelcol, prometheus
from harness.targets.bundle import ROOT
from harness.targets.kubernetes import charts, production
from harness.targets.kubernetes.charts import Chart

KEYS = Path(__file__).with_name("charts")
BUCKET = "loki-bucket.yaml"
FILES = [*((each, each.values) for each in charts.known()), (charts.known()[2], BUCKET)]


def values(name: str) -> Any:
    return yaml.safe_load((charts.VALUES / name).read_text())


def leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(tree, dict) and tree:
        for key, below in tree.items():
            yield from leaves(below, (*path, key))
    else:
        yield path


def known(chart: Chart) -> set[str]:
    if chart.repository:
        return set((KEYS / f"{chart.chart}.keys").read_text().split())
    ours = yaml.safe_load((ROOT / chart.chart / "values.yaml").read_text())
    return {"/".join(path) for path in leaves(ours)} | {"workloads/*", "agents/collectors/*"}


def knows(keys: set[str], path: tuple[str, ...]) -> bool:
    above = {f"{'/'.join(path[:n])}/*" for n in range(1, len(path) + 1)}
    return "/".join(path) in keys or bool(above & keys)


@pytest.mark.parametrize(("chart", "name"), FILES, ids=[name for _, name in FILES])
def test_a_chart_knows_every_key_that_it_is_given(chart: Chart, name: str) -> None:
    keys = known(chart)
    assert ["/".join(path) for path in leaves(values(name)) if not knows(keys, path)] == []


def test_a_key_that_no_chart_knows_is_found() -> None:
    keys = {"a/b", "c/*"}
    assert [knows(keys, path) for path in (("a", "b"), ("c", "x", "y"), ("a",), ("a", "x"))] == [
        True, True, False, False,
    ]  # fmt: skip


def test_every_file_is_a_charts_or_the_example() -> None:
    assert {path.name for path in charts.VALUES.iterdir()} == {name for _, name in FILES}


def sizes(tree: Any) -> Iterator[int]:
    """The GiB of each volume that values ask for, once for each replica."""
    if not isinstance(tree, dict):
        return
    for key, below in tree.items():
        if key in ("storageSpec", "storage") and "volumeClaimTemplate" in below:
            asked = below["volumeClaimTemplate"]["spec"]["resources"]["requests"]["storage"]
            yield from [int(asked.removesuffix("Gi"))] * tree.get("replicas", 1)
        elif key == "persistence":
            assert below["enabled"]
            yield from [int(below["size"].removesuffix("Gi"))] * tree.get("replicas", 1)
        else:
            yield from sizes(below)


@pytest.mark.parametrize("chart", charts.known(), ids=lambda chart: chart.release)
def test_the_plan_tells_the_storage_that_the_values_ask_for(chart: Chart) -> None:
    told = [volume.gib for volume in chart.volumes for _ in range(volume.count)]
    assert sorted(sizes(values(chart.values))) == sorted(told)


def scalars(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict | list):
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, below in pairs:
            yield from scalars(below, f"{path}/{key}")
    else:
        yield path, tree


@pytest.mark.parametrize("name", [name for _, name in FILES])
def test_nothing_is_told_to_the_world_and_no_password_is_written(name: str) -> None:
    for path, value in scalars(values(name)):
        assert value not in ("LoadBalancer", "NodePort"), path
        assert "ingress" not in path.lower(), path
        if "password" in path.lower():
            assert path.endswith("/admin/passwordKey")


def test_grafana_reads_the_secret_that_up_makes() -> None:
    assert values("kube-prometheus-stack.yaml")["grafana"]["admin"] == {
        "existingSecret": production.PASSWORD,
        "userKey": "admin-user",
        "passwordKey": "admin-password",
    }


def test_both_prometheus_are_sent_to_by_name() -> None:
    chart = charts.known()[0]
    replicas = values(chart.values)["prometheus"]["prometheusSpec"]["replicas"]
    names = [f"{chart.statefulsets[0]}-{number}.prometheus-operated" for number in range(replicas)]
    exporters = values("otel-gateway.yaml")["config"]["exporters"]
    sent = [
        each["metrics_endpoint"]
        for each in exporters.values()
        if each and "metrics_endpoint" in each
    ]
    generator = values("tempo.yaml")["tempo"]["metricsGenerator"]["storage"]["remote_write"]
    for name, one, other in zip(names, sent, (each["url"] for each in generator), strict=True):
        assert one.startswith(f"http://{name}:9090/")
        assert other.startswith(f"http://{name}:9090/")


def test_what_a_collector_sends_is_as_the_proof_expects() -> None:
    ours = values("harness-agents.yaml")
    assert ours["agents"]["collectors"]["http"] == ["--sample", str(production.SAMPLE)]
    assert production.ASKED.times >= 10 * production.SAMPLE
    assert ours["agents"]["otlp"] == f"http://{production.HOSTS['otelcol']}:4318"
    assert production.ASKED.service not in ours["workloads"]  # so that it is left as it is


def test_the_gateway_names_pods_as_the_collector_of_the_proof_of_concept_does() -> None:
    config = values("otel-gateway.yaml")["config"]
    assert config["processors"][otelcol.PODS] == otelcol.pods()
    for pipeline in config["service"]["pipelines"].values():
        assert pipeline["processors"] == ["memory_limiter", otelcol.PODS, "resource/nameless"]
    (rule,) = values("otel-gateway.yaml")["clusterRole"]["rules"]
    assert rule["resources"] == ["pods"]


def test_prometheus_has_the_same_labels_as_in_the_proof_of_concept() -> None:
    otlp = values("kube-prometheus-stack.yaml")["prometheus"]["prometheusSpec"]["otlp"]
    assert set(otlp["promoteResourceAttributes"]) == set(prometheus.PROMOTED)


def test_versions_are_those_that_are_written_elsewhere() -> None:
    ours = charts.known()[-1]
    assert yaml.safe_load((ROOT / ours.chart / "Chart.yaml").read_text())["version"] == ours.version
    image = values("otel-gateway.yaml")["image"]["repository"]
    assert catalog.known()["otelcol"].image.startswith(f"{image}:")
    assert values("otel-agent.yaml")["image"]["repository"] == image
