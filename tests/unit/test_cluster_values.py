"""A component's pod is made of the record that makes its process."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import pytest

from harness.errors import NeedError
from harness.stack import catalog
from harness.stack.config import PROGRAMS, Program
from harness.targets.kubernetes import values

STACK = values.stack("kind-shop")
SHOWN = values.stack("kind-shop", grafana=True)


def configuration(name: str) -> Any:
    return json.loads(values.component(STACK, name)["files"][f"{name}.yaml"])


def leaves(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict | list):
        for each in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(each)
    else:
        yield str(tree)


def test_every_signal_is_kept_by_a_component_that_has_an_image() -> None:
    made = values.values(STACK, "localhost/node:1")
    assert set(made["components"]) == {*STACK.keeps.values(), "otelcol"}
    assert "localhost/node:1" in values.images(made)
    assert all(":" in image for image in values.images(made))


def test_the_collector_sends_to_services_by_their_names() -> None:
    exporters = configuration("otelcol")["exporters"]
    assert exporters["otlp_grpc/jaeger"]["endpoint"] == "jaeger:14318"
    assert exporters["otlp_http/victorialogs"]["logs_endpoint"].startswith(
        "http://victorialogs:9428/"
    )
    assert "http://prometheus:9090/" in exporters["otlp_http/prometheus"]["metrics_endpoint"]


@pytest.mark.parametrize("name", list(STACK.hosts))
def test_nothing_in_a_pod_is_on_loopback(name: str) -> None:
    made = values.component(STACK, name)
    said = [
        *made["args"],
        *(leaf for text in made["files"].values() for leaf in leaves(json.loads(text))),
    ]
    assert not [each for each in said if "127.0.0.1" in each]


@pytest.mark.parametrize("name", list(SHOWN.hosts))
def test_go_knows_the_limit_of_its_pod(name: str) -> None:
    made = values.component(SHOWN, name)
    assert made["env"]["GOMEMLIMIT"] == f"{made['memory'] * 4 // 5}MiB"


def test_a_record_says_of_which_cluster_it_is() -> None:
    attributes = configuration("otelcol")["processors"]["resource"]["attributes"]
    assert {each["key"]: each["value"] for each in attributes} == {
        "k8s.cluster.name": "kind-shop", "service.name": "unknown_service",
    }  # fmt: skip
    assert {each["action"] for each in attributes} == {"insert"}


def test_every_record_gets_the_names_of_its_pod_before_what_is_said_of_the_nameless() -> None:
    made = configuration("otelcol")
    for pipeline in made["service"]["pipelines"].values():
        assert pipeline["processors"] == ["memory_limiter", "k8s_attributes", "resource"]
    by = [each["sources"][0] for each in made["processors"]["k8s_attributes"]["pod_association"]]
    assert by == [
        {"from": "resource_attribute", "name": "k8s.pod.uid"},
        {"from": "resource_attribute", "name": "container.id"},
    ]
    assert values.component(STACK, "otelcol")["readsPods"]
    assert "readsPods" not in values.component(STACK, "jaeger")


def test_on_one_machine_nobody_asks_a_cluster() -> None:
    alone = PROGRAMS["otelcol"].render
    assert alone is not None
    assert "k8s_attributes" not in json.dumps(alone(dataclasses.replace(STACK, names_pods=False)))


def test_prometheus_scrapes_each_component_where_it_is() -> None:
    targets = {
        job["job_name"]: job["static_configs"][0]["targets"]
        for job in configuration("prometheus")["scrape_configs"]
    }
    assert targets["jaeger"] == ["jaeger:8889"]
    assert targets["otelcol"] == ["otelcol:8888"]


def test_a_probe_asks_what_up_asks_on_one_machine() -> None:
    assert values.component(STACK, "prometheus")["ready"] == {"path": "/-/ready", "port": 9090}
    assert values.component(STACK, "otelcol")["ready"] == {"path": "/", "port": 13133}


def test_a_component_that_is_added_has_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    record = catalog.Component(
        "thrift", "Thrift", "1", "MIT", ports={"http": 99}, image="thrift:1", memory_mb=10
    )
    program = Program(
        lambda s: {"at": s.listens("thrift")}, lambda s: [], lambda s: s.url("thrift")
    )
    monkeypatch.setattr(
        catalog, "known", lambda: MappingProxyType({**catalog.load(), "thrift": record})
    )
    monkeypatch.setitem(PROGRAMS, "thrift", program)
    stack = dataclasses.replace(STACK, hosts={**STACK.hosts, "thrift": "thrift"})
    assert values.values(stack, "node")["components"]["thrift"] == {
        "image": "thrift:1", "args": [], "files": {"thrift.yaml": '{"at": "0.0.0.0:99"}'},
        "folder": "/harness", "data": "/harness/data/thrift", "ports": {"http": 99},
        "ready": {"path": "/", "port": 99}, "memory": 10, "env": {"GOMEMLIMIT": "8MiB"},
    }  # fmt: skip


def test_grafana_is_a_component_as_others_with_what_it_needs_besides() -> None:
    assert "grafana" not in values.values(STACK, "node")["components"]
    made = values.values(SHOWN, "node")["components"]
    assert set(made) == {*STACK.hosts, "grafana"}
    assert {n: one for n, one in made.items() if n != "grafana"} == (
        values.values(STACK, "node")["components"]
    )
    own = made["grafana"]
    assert own["image"] == catalog.known()["grafana"].image
    assert own["args"] == []  # the image says by itself where its pages are
    assert own["ready"] == {"path": "/api/health", "port": 3000}
    assert (own["user"], own["secrets"]) == (472, ["grafana-password"])
    assert own["env"]["GF_SECURITY_ADMIN_PASSWORD"] == "$__file{/harness/grafana-password}"
    assert own["env"]["GF_SERVER_HTTP_ADDR"] == "0.0.0.0"
    written = [own["env"][f"GF_PATHS_{each}"] for each in ("DATA", "LOGS", "PLUGINS")]
    assert all(each.startswith(own["data"]) for each in written)
    assert own["env"]["GF_PATHS_PROVISIONING"] == "/harness/grafana/provisioning"
    assert sum(map(len, own["files"].values())) < 500_000  # of the megabyte of a ConfigMap
    (source, *_) = json.loads(own["files"]["grafana/provisioning/datasources/stack.yaml"])[
        "datasources"
    ]
    assert source["url"].startswith(("http://jaeger:16686", "http://prometheus:9090"))


def test_one_without_an_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = dataclasses.replace(catalog.known()["jaeger"], image="")
    monkeypatch.setattr(
        catalog, "known", lambda: MappingProxyType({**catalog.load(), "jaeger": bare})
    )
    with pytest.raises(NeedError, match="no image of it"):
        values.component(STACK, "jaeger")
