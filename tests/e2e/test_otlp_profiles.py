"""OTLP profiles pass the real Collector as they were made: others read the format so, too."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceRequest,
)

from harness.agent.otlp import Exporter
from harness.linux import processes
from harness.meters import otlp
from harness.stack import catalog, supply
from harness.wire.spool import Record, read_spool
from tests.e2e.running_sink import Running
from tests.otlp_profiles import ORIGIN, Reader, made, sent
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.stack]


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path / "spool", tmp_path / "sink.log")
    yield running
    running.stop()


@pytest.fixture
def collector(tmp_path: Path, sink: Running) -> Iterator[str]:
    """The URL of a Collector that passes profiles on to the sink; nothing else goes through it."""
    offer = supply.choose(catalog.known()["otelcol"], supply.cache())
    if offer is None or offer.program is None or not offer.ready:
        pytest.skip("the Collector is not in the cache: `make test-stack` builds it")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    configuration = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
        "exporters": {"otlp_http": {"endpoint": f"http://127.0.0.1:{sink.port}"}},
        "service": {
            "pipelines": {"profiles": {"receivers": ["otlp"], "exporters": ["otlp_http"]}},
            "telemetry": {"metrics": {"level": "none"}},
        },
    }
    (tmp_path / "otelcol.yaml").write_text(json.dumps(configuration))
    log = tmp_path / "otelcol.log"
    process = processes.spawn(
        [
            str(offer.program),
            f"--config={tmp_path / 'otelcol.yaml'}",
            "--feature-gates=service.profilesSupport",
        ],
        log=log,
    )
    try:
        assert until(lambda: process.poll() is not None or _listens(port))
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        processes.stop(process)


def test_profiles_pass_the_collector_as_they_were_made(collector: str, sink: Running) -> None:
    exporter = Exporter(collector)
    with closing(exporter):
        assert exporter.send_profiles([(ORIGIN, [made()])]) == 0
    assert until(lambda: _arrived(sink))
    (record,) = _arrived(sink)
    passed = ExportProfilesServiceRequest.FromString(record.content())
    assert Reader(passed).stacks() == Reader(sent(made())).stacks()
    places = range(1, len(passed.dictionary.location_table))
    told = [Reader(passed).frame(place) for place in places]
    own = sent(made())
    made_of = [Reader(own).frame(place) for place in range(1, len(own.dictionary.location_table))]
    assert sorted(told, key=str) == sorted(made_of, key=str)
    assert [each.resource for each in passed.resource_profiles] == [
        each.resource for each in own.resource_profiles
    ]


def _arrived(sink: Running) -> list[Record]:
    return [each for each in read_spool(sink.spool) if each.path == otlp.PROFILES]


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
