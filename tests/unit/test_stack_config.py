"""The stack's files follow from one description: who listens where, and who sends to whom."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.stack import backends, catalog, config, counters, selection
from harness.stack.config import (
    GRAFANA_PASSWORD,
    PROGRAMS,
    Program,
    Stack,
    Store,
    grafana,
    jaeger,
    loki,
    otelcol,
    prometheus,
    tempo,
    victorialogs,
)
from harness.stack.config.description import KEEPS
from harness.stack.grafana import sources
from tests.unit.stacked import GRAFANAS

APART = ("grafana", "tempo", "loki")  # they are told their address and their port one by one


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
    told: list[str] = []
    for program in PROGRAMS.values():
        told += _leaves(program.render(stack)) if program.render else []
        told += [*program.arguments(stack), *program.environment(stack).values()]
    return "\n".join(told)


@pytest.fixture(params=[{}, GRAFANAS], ids=["built here", "Grafana's"])
def stack(tmp_path: Path, request: pytest.FixtureRequest) -> Stack:
    return Stack(tmp_path, keeps=request.param or Stack(tmp_path).keeps)


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


def test_grafana_has_the_plugins_that_are_installed_here(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "plugins"
    monkeypatch.setattr(grafana, "_PLUGINS", installed)
    assert grafana.plugins() == ()
    assert grafana.environment(stack)["GF_PATHS_PLUGINS"] == stack.data("grafana/plugins")
    (installed / "victoriametrics-logs-datasource").mkdir(parents=True)
    assert grafana.plugins() == ("victoriametrics-logs-datasource",)
    there = dataclasses.replace(stack, plugins=grafana.plugins())
    assert grafana.environment(there)["GF_PATHS_PLUGINS"] == str(installed)


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
    assert jaeger.render(long)["extensions"]["jaeger_storage"]["backends"]["badger"]["badger"][
        "ttl"
    ] == {"spans": "240h"}
    for asked, hours in ((short, 24), (long, 240)):
        assert f"-retentionPeriod={hours}h" in victorialogs.PROGRAM.arguments(asked)


def test_nothing_listens_beyond_loopback_unless_told(stack: Stack) -> None:
    assert "0.0.0.0" not in _everything(stack)
    opened = _everything(dataclasses.replace(stack, bind="192.0.2.7"))
    for name, component in catalog.known().items():
        for use in component.ports:
            told = f"192.0.2.7:{stack.port(name, use)}" in opened
            assert not told if use in component.inner else told or name in APART, (name, use)


def test_what_only_the_components_say_to_each_other_stays_on_loopback(stack: Stack) -> None:
    opened = dataclasses.replace(stack, bind="192.0.2.7")
    inner = [(n, use) for n, c in catalog.known().items() for use in c.inner]
    assert {opened.address(*each) for each in inner} == {"127.0.0.1"}
    assert opened.address("otelcol") == "192.0.2.7"
    assert jaeger.render(opened)["receivers"]["otlp"]["protocols"]["grpc"] == {
        "endpoint": "127.0.0.1:14318"
    }
    assert tempo.render(opened)["server"]["grpc_listen_address"] == "127.0.0.1"
    assert loki.render(opened)["server"]["grpc_listen_address"] == "127.0.0.1"


def test_an_address_for_all_interfaces_is_asked_on_loopback(stack: Stack) -> None:
    opened = dataclasses.replace(stack, bind="0.0.0.0")
    assert opened.url("prometheus") == "http://127.0.0.1:9090"
    assert opened.listens("prometheus") == "0.0.0.0:9090"


def test_each_port_is_used_once_and_checked(stack: Stack) -> None:
    listened = [p for component in catalog.known().values() for p in component.ports.values()]
    assert len(listened) == len(set(listened))
    assert set(PROGRAMS) == set(catalog.known())
    told = _everything(stack)
    for name, component in catalog.known().items():
        for use, port in component.ports.items():
            assert str(port) in told, (name, use)


def test_the_collector_limits_memory_first_and_keeps_its_queue_on_disk(stack: Stack) -> None:
    tree = otelcol.render(stack, PROGRAMS)
    for pipeline in tree["service"]["pipelines"].values():
        assert pipeline["processors"][0] == "memory_limiter"
        assert "batch" not in pipeline["processors"]
        for name in pipeline["exporters"]:
            exporter = tree["exporters"][name]
            assert exporter["sending_queue"]["storage"] in tree["extensions"]
            assert exporter["retry_on_failure"]["max_elapsed_time"] == "0s"
    assert set(tree["service"]["extensions"]) == set(tree["extensions"])


def test_the_collector_sends_where_the_others_listen(tmp_path: Path) -> None:
    ports = {"prometheus.http": 1111, "tempo.otlp": 2222, "loki.http": 3333, "tempo.http": 4444}
    stack = Stack(tmp_path, keeps=GRAFANAS, ports=ports)
    exporters = otelcol.render(stack, PROGRAMS)["exporters"]
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


def test_what_keeps_traces_and_logs_can_be_others(tmp_path: Path) -> None:
    ports = {"prometheus.http": 1111, "jaeger.otlp": 2222, "victorialogs.http": 3333}
    stack = Stack(tmp_path, ports={**ports, "jaeger.metrics": 4444})
    exporters = otelcol.render(stack, PROGRAMS)["exporters"]
    assert exporters["otlp_grpc/jaeger"]["endpoint"] == "127.0.0.1:2222"
    assert exporters["otlp_http/victorialogs"]["logs_endpoint"] == (
        "http://127.0.0.1:3333/insert/opentelemetry/v1/logs"
    )
    protocols = jaeger.render(stack)["receivers"]["otlp"]["protocols"]
    assert protocols["grpc"]["endpoint"] == "127.0.0.1:2222"
    assert "-httpListenAddr=127.0.0.1:3333" in victorialogs.PROGRAM.arguments(stack)
    jobs = {job["job_name"]: job for job in prometheus.render(stack)["scrape_configs"]}
    assert set(jobs) == {"otelcol", "prometheus", "jaeger", "victorialogs"}
    (target,) = jobs["jaeger"]["static_configs"][0]["targets"]
    assert target == "127.0.0.1:4444"
    (renamed,) = jobs["jaeger"]["metric_relabel_configs"]  # not to be taken for the Collector's
    assert (renamed["regex"], renamed["replacement"]) == ("otelcol_(.+)", "jaeger_${1}")


def test_a_component_is_one_entry_and_one_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What else is asked about it (scraping, the Collector's exporter, sources) follows."""
    entry = dataclasses.replace(
        catalog.known()["victorialogs"], name="other", title="Other", ports={"http": 1234},
        arrived="other_rows_total",
    )  # fmt: skip
    store = Store(lambda s: ("otlp_http", {"logs_endpoint": s.url("other")}), _Silent)
    program = Program(None, lambda s: [], lambda s: s.url("other"), store=store)
    monkeypatch.setattr(catalog, "known", lambda: {**catalog.load(), "other": entry})
    monkeypatch.setitem(PROGRAMS, "other", program)
    stack = Stack(tmp_path, keeps={**KEEPS, "logs": "other"})
    tree = otelcol.render(stack, PROGRAMS)
    assert tree["service"]["pipelines"]["logs"]["exporters"] == ["otlp_http/other"]
    assert tree["exporters"]["otlp_http/other"]["logs_endpoint"] == "http://127.0.0.1:1234"
    jobs = {job["job_name"] for job in prometheus.render(stack)["scrape_configs"]}
    assert jobs == {"otelcol", "prometheus", "jaeger", "other"}
    assert backends.keeper(stack, "logs").has("ab") is False
    assert counters.backend("other_rows_total 3\n", entry) == {"arrived": 3}
    assert [role.name for role in selection.select(["other"])].count("logs") == 1
    assert sources.source(stack, "other")["url"] == "http://127.0.0.1:1234"


class _Silent:
    def __init__(self, url: str) -> None:
        assert url == "http://127.0.0.1:1234"

    def has(self, mark: str) -> bool:
        return False


def test_all_data_lie_in_the_stacks_folder(stack: Stack) -> None:
    folder = str(stack.folder)
    places = [leaf for leaf in _everything(stack).splitlines() if "=/" in leaf or leaf[:1] == "/"]
    assert len(places) >= 10
    for place in places:
        assert folder in place or place.startswith("--homepath="), place
