"""The stack's files follow from one description: who listens where, and who sends to whom."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.stack import config
from harness.stack.config import (
    GRAFANA_PASSWORD,
    PROGRAMS,
    Ports,
    Stack,
    grafana,
    loki,
    otelcol,
    prometheus,
    tempo,
)


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
    """All that the programs are told, but for their dashboards and rules."""
    told = []
    for program in PROGRAMS.values():
        told += _leaves(program.render(stack)) if program.render else []
        told += [*program.arguments(stack), *program.environment(stack).values()]
    return "\n".join(told)


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


def test_files_are_written_for_each(stack: Stack) -> None:
    for name, program in PROGRAMS.items():
        arguments = config.write(stack, name)
        if program.render is not None:
            assert any(str(stack.file(name)) in word for word in arguments)
            assert json.loads(stack.file(name).read_text()) == program.render(stack)
        for file, tree in program.files(stack).items():
            assert json.loads((stack.folder / file).read_text()) == tree
        assert Path(stack.data(name)).is_dir()


def test_a_password_is_made_once_and_only_its_owner_reads_it(stack: Stack) -> None:
    assert PROGRAMS["grafana"].secrets == (GRAFANA_PASSWORD,)
    config.write(stack, "grafana")
    path = stack.folder / GRAFANA_PASSWORD
    first = path.read_text().strip()
    assert len(first) >= 24
    assert path.stat().st_mode & 0o777 == 0o600
    config.write(stack, "grafana")
    assert path.read_text().strip() == first
    told = PROGRAMS["grafana"].environment(stack)
    assert told["GF_SECURITY_ADMIN_PASSWORD"] == f"$__file{{{path}}}"
    assert first not in _everything(stack)


def test_grafana_lets_nobody_in_and_calls_nobody(stack: Stack) -> None:
    told = PROGRAMS["grafana"].environment(stack)
    asked = [
        "GF_AUTH_ANONYMOUS_ENABLED", "GF_USERS_ALLOW_SIGN_UP", "GF_ANALYTICS_REPORTING_ENABLED",
        "GF_ANALYTICS_CHECK_FOR_UPDATES", "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES",
    ]  # fmt: skip
    assert {told[name] for name in asked} == {"false"}
    assert (told["GF_SERVER_HTTP_ADDR"], told["GF_SERVER_HTTP_PORT"]) == ("127.0.0.1", "3000")
    assert Path(told["GF_PATHS_PROVISIONING"]) == stack.folder / "grafana" / "provisioning"


def test_grafanas_pages_are_beside_its_program_or_where_packages_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "grafana-13" / "bin" / "grafana"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    assert grafana.home() == Path("/usr/share/grafana")
    (tmp_path / "grafana-13" / "conf").mkdir()
    (tmp_path / "grafana-13" / "conf" / "defaults.ini").touch()
    assert grafana.home() == tmp_path / "grafana-13"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "grafana").symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert grafana.home() == tmp_path / "grafana-13"


def test_prometheus_reads_the_rules_that_are_written(stack: Stack) -> None:
    program = PROGRAMS["prometheus"]
    assert program.render is not None
    (path,) = program.render(stack)["rule_files"]
    assert [stack.folder / name for name in program.files(stack)] == [Path(path)]


def test_what_is_kept_is_as_long_as_asked(stack: Stack) -> None:
    short, long = (dataclasses.replace(stack, retention_hours=hours) for hours in (2, 240))
    assert "--storage.tsdb.retention.time=2h" in PROGRAMS["prometheus"].arguments(short)
    assert tempo.render(long)["compactor"]["compaction"]["block_retention"] == "240h"
    assert loki.render(long)["limits_config"]["retention_period"] == "240h"
    assert loki.render(short)["limits_config"]["retention_period"] == "24h"  # its index's period


def test_nothing_listens_beyond_loopback_unless_told(stack: Stack) -> None:
    assert "0.0.0.0" not in _everything(stack)
    opened = _everything(dataclasses.replace(stack, bind="192.0.2.7"))
    for port in (stack.ports.otlp_grpc, stack.ports.otlp_http, stack.ports.prometheus):
        assert f"192.0.2.7:{port}" in opened
    for inner in (stack.ports.tempo_otlp, stack.ports.collector_health, stack.ports.tempo_grpc):
        assert f"192.0.2.7:{inner}" not in opened


def test_what_only_the_components_say_to_each_other_stays_on_loopback(stack: Stack) -> None:
    opened = dataclasses.replace(stack, bind="192.0.2.7")
    assert {opened.address(port) for port in opened.ports.inner()} == {"127.0.0.1"}
    assert opened.address(opened.ports.otlp_http) == "192.0.2.7"
    assert tempo.render(opened)["server"]["grpc_listen_address"] == "127.0.0.1"
    assert loki.render(opened)["server"]["grpc_listen_address"] == "127.0.0.1"


def test_an_address_for_all_interfaces_is_asked_on_loopback(stack: Stack) -> None:
    assert dataclasses.replace(stack, bind="0.0.0.0").url(9090) == "http://127.0.0.1:9090"


def test_each_port_is_used_once_and_checked(stack: Stack) -> None:
    listened = [port for program in PROGRAMS.values() for port in program.listens(stack.ports)]
    assert len(listened) == len(set(listened))
    assert set(dataclasses.asdict(stack.ports).values()) == set(listened)


def test_the_collector_limits_memory_first_and_keeps_its_queue_on_disk(stack: Stack) -> None:
    tree = otelcol.render(stack)
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
    exporters = otelcol.render(stack)["exporters"]
    assert exporters["otlp_grpc/tempo"]["endpoint"] == "127.0.0.1:2222"
    assert exporters["otlp_http/prometheus"]["metrics_endpoint"].startswith("http://127.0.0.1:1111")
    assert exporters["otlp_http/loki"]["logs_endpoint"].startswith("http://127.0.0.1:3333")
    receivers = tempo.render(stack)["distributor"]["receivers"]["otlp"]["protocols"]
    assert receivers["grpc"]["endpoint"] == "127.0.0.1:2222"
    remote = tempo.render(stack)["metrics_generator"]["storage"]["remote_write"]
    assert remote[0]["url"] == "http://127.0.0.1:1111/api/v1/write"
    scraped = {job["static_configs"][0]["targets"][0] for job in
               prometheus.render(stack)["scrape_configs"]}  # fmt: skip
    assert scraped == {"127.0.0.1:8888", "127.0.0.1:1111", "127.0.0.1:4444", "127.0.0.1:3333"}


def test_all_data_lie_in_the_stacks_folder(stack: Stack) -> None:
    folder = str(stack.folder)
    places = [leaf for leaf in _everything(stack).splitlines() if "=/" in leaf or leaf[:1] == "/"]
    assert len(places) >= 10
    for place in places:
        assert folder in place or place.startswith("--homepath="), place
