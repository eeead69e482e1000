"""The stack's files follow from one description: who listens where, and who sends to whom."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.stack import config
from harness.stack.config import PROGRAMS, Ports, Stack


def _leaves(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        for value in tree.values():
            yield from _leaves(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _leaves(value)
    else:
        yield str(tree)


def _everything(stack: Stack) -> str:
    trees = [leaf for p in PROGRAMS.values() for leaf in _leaves(p.render(stack))]
    return "\n".join([*trees, *(a for p in PROGRAMS.values() for a in p.arguments(stack))])


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


def test_files_are_written_for_each(stack: Stack) -> None:
    for name, program in PROGRAMS.items():
        arguments = config.write(stack, name)
        assert any(str(stack.file(name)) in word for word in arguments)
        assert json.loads(stack.file(name).read_text()) == program.render(stack)
        assert Path(stack.data(name)).is_dir()


def test_nothing_listens_beyond_loopback_unless_told(stack: Stack) -> None:
    assert "0.0.0.0" not in _everything(stack)
    opened = _everything(dataclasses.replace(stack, bind="192.0.2.7"))
    for port in (stack.ports.otlp_grpc, stack.ports.otlp_http, stack.ports.prometheus):
        assert f"192.0.2.7:{port}" in opened
    for inner in (stack.ports.tempo_otlp, stack.ports.collector_health, stack.ports.tempo_grpc):
        assert f"192.0.2.7:{inner}" not in opened


def test_an_address_for_all_interfaces_is_asked_on_loopback(stack: Stack) -> None:
    assert dataclasses.replace(stack, bind="0.0.0.0").url(9090) == "http://127.0.0.1:9090"


def test_each_port_is_used_once_and_checked(stack: Stack) -> None:
    listened = [port for program in PROGRAMS.values() for port in program.listens(stack.ports)]
    assert len(listened) == len(set(listened))
    others = {stack.ports.grafana}
    assert set(dataclasses.asdict(stack.ports).values()) - others == set(listened)


def test_the_collector_limits_memory_first_and_keeps_its_queue_on_disk(stack: Stack) -> None:
    tree = config.otelcol(stack)
    for pipeline in tree["service"]["pipelines"].values():
        assert pipeline["processors"][0] == "memory_limiter"
        assert "batch" not in pipeline["processors"]
        for name in pipeline["exporters"]:
            exporter = tree["exporters"][name]
            assert exporter["sending_queue"]["storage"] in tree["extensions"]
            assert exporter["retry_on_failure"]["max_elapsed_time"] == "0s"
    assert set(tree["service"]["extensions"]) == set(tree["extensions"])


def test_the_collector_sends_where_the_others_listen(tmp_path: Path) -> None:
    ports = Ports(prometheus=1111, tempo_otlp=2222, loki=3333, tempo=4444)
    stack = Stack(tmp_path, ports=ports)
    exporters = config.otelcol(stack)["exporters"]
    assert exporters["otlp_grpc/tempo"]["endpoint"] == "127.0.0.1:2222"
    assert exporters["otlp_http/prometheus"]["metrics_endpoint"].startswith("http://127.0.0.1:1111")
    assert exporters["otlp_http/loki"]["logs_endpoint"].startswith("http://127.0.0.1:3333")
    receivers = config.tempo(stack)["distributor"]["receivers"]["otlp"]["protocols"]
    assert receivers["grpc"]["endpoint"] == "127.0.0.1:2222"
    remote = config.tempo(stack)["metrics_generator"]["storage"]["remote_write"]
    assert remote[0]["url"] == "http://127.0.0.1:1111/api/v1/write"
    scraped = {job["static_configs"][0]["targets"][0] for job in
               config.prometheus(stack)["scrape_configs"]}  # fmt: skip
    assert scraped == {"127.0.0.1:8888", "127.0.0.1:1111", "127.0.0.1:4444", "127.0.0.1:3333"}


def test_all_data_lie_in_the_stacks_folder(stack: Stack) -> None:
    folder = str(stack.folder)
    places = [leaf for leaf in _everything(stack).splitlines() if "=/" in leaf or leaf[:1] == "/"]
    assert len(places) >= 10
    for place in places:
        assert folder in place, place
