"""Hubble's flows become OTLP: between whom, by which protocol, what became of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from harness.agent import hubble
from harness.agent.otlp import Exporter
from tests.waiting import PATIENCE_SECONDS, until

# as `hubble observe --output jsonpb` prints them, some fields left out
FORWARDED: dict[str, Any] = {
    "flow": {
        "time": "2026-11-27T12:00:00.5Z", "verdict": "FORWARDED", "Type": "L3_L4",
        "IP": {"source": "10.0.1.7", "destination": "10.0.2.9", "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": 41234, "destination_port": 8080, "flags": {"SYN": True}}},
        "source": {"ID": 7, "identity": 9, "namespace": "shop", "pod_name": "checkout-7d",
                   "labels": ["k8s:app=checkout"]},
        "destination": {"namespace": "shop", "pod_name": "stock-5c", "labels": ["k8s:app=stock"]},
        "destination_service": {"name": "stock", "namespace": "shop"},
        "traffic_direction": "EGRESS", "node_name": "worker",
    },
    "node_name": "worker",
}  # fmt: skip
DROPPED: dict[str, Any] = {
    "flow": {
        "verdict": "DROPPED", "drop_reason_desc": "POLICY_DENIED", "traffic_direction": "INGRESS",
        "IP": {"source": "192.0.2.7", "destination": "10.0.2.9"},
        "l4": {"UDP": {"source_port": 5353, "destination_port": 53}},
        "l7": {"type": "REQUEST", "dns": {"query": "x."}},
        "source": {"identity": 2, "labels": ["reserved:world"]},
        "destination": {"namespace": "shop", "pod_name": "stock-5c"},
    },
}  # fmt: skip
LOST = {"lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "5"}}


def _lines(*told: Any) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in told)


def test_between_whom_a_flow_is_and_what_became_of_it() -> None:
    assert hubble.attributes(FORWARDED["flow"]) == {
        "hubble.verdict": "forwarded", "hubble.traffic_direction": "egress",
        "source.k8s.namespace.name": "shop", "source.k8s.pod.name": "checkout-7d",
        "destination.k8s.namespace.name": "shop", "destination.k8s.pod.name": "stock-5c",
        "destination.service.name": "stock", "network.transport": "tcp",
    }  # fmt: skip
    assert hubble.attributes(DROPPED["flow"]) == {
        "hubble.verdict": "dropped", "hubble.traffic_direction": "ingress",
        "source.cilium.identity": "world", "destination.k8s.namespace.name": "shop",
        "destination.k8s.pod.name": "stock-5c", "network.transport": "udp",
        "network.protocol.name": "dns",
    }  # fmt: skip


def test_what_is_no_flow_is_counted_and_ends_nothing() -> None:
    flows = hubble.Flows()
    for line in (b"no JSON", b"7", b'{"flow": 7}', b'{"node_status": {}}', _lines(LOST)):
        flows.take(line)
    assert (flows.unread, flows.lost, flows.counts.total()) == (3, 5, 0)
    flows.take(_lines(FORWARDED))
    flows.take(_lines({"flow": {"verdict": "AUDIT"}}))  # a policy would have denied it
    assert flows.counts.total() == 2
    assert flows.records == []


def test_more_pairs_than_have_room_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubble, "SERIES", 2)
    flows = hubble.Flows()
    for number in (1, 2, 3, 4, 1):
        told = {"verdict": "FORWARDED", "source": {"pod_name": f"p{number}"}}
        flows.take(_lines({"flow": told}))
    assert sorted(flows.counts.values()) == [1, 2, 2]
    assert flows.counts[hubble.OTHER] == 2
    points = [dict(point.attributes) for point in flows.readings().metrics[0].data.data_points]
    assert {"otel.metric.overflow": True} in points


def test_records_have_an_end_and_what_is_beyond_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubble, "WAITING", 2)
    flows = hubble.Flows()
    for _ in range(5):
        flows.take(_lines(DROPPED))
    assert (len(flows.records), flows.dropped, flows.counts.total()) == (2, 3, 5)


class Receiver(HTTPServer):
    """Keeps what it is sent; `status` is what it answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 200
        self.answers = threading.Event()
        self.answers.set()
        self.asked = 0
        self.got: list[tuple[str, Message]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def points(self) -> dict[str, int]:
        """By the name of a metric, the sum of its last points."""
        requests = [each for path, each in self.got if path == "/v1/metrics"]
        metrics = requests[-1].resource_metrics[0].scope_metrics[0].metrics  # type: ignore[attr-defined]
        return {m.name: sum(p.as_int for p in m.sum.data_points) for m in metrics}

    def records(self) -> list[Any]:
        requests = [each for path, each in self.got if path == "/v1/logs"]
        return [
            record
            for each in requests
            for record in each.resource_logs[0].scope_logs[0].log_records  # type: ignore[attr-defined]
        ]


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.asked += 1
        self.server.answers.wait(PATIENCE_SECONDS)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kinds: dict[str, Any] = {
            "/v1/metrics": ExportMetricsServiceRequest,
            "/v1/logs": ExportLogsServiceRequest,
        }
        if self.server.status == 200:
            self.server.got.append((self.path, kinds[self.path].FromString(body)))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def test_what_a_receiver_does_not_take_now_waits(receiver: Receiver) -> None:
    flows = hubble.Flows()
    bridge = hubble.Bridge(flows, Exporter(receiver.url), "hubble")
    flows.take(_lines(DROPPED))
    receiver.status = 503
    bridge.send()
    assert "status 503" in bridge.amiss
    assert len(flows.records) == 1
    receiver.status = 200
    bridge.send()
    assert (bridge.amiss, flows.records) == ("", [])
    assert receiver.points()["hubble.flows"] == 1
    (record,) = receiver.records()
    assert record.event_name == "hubble.flow"
    assert record.body.string_value == "192.0.2.7 to stock-5c: dropped (POLICY_DENIED)"
    told = {each.key: each.value.string_value for each in record.attributes}
    assert told["hubble.drop_reason"] == "POLICY_DENIED"
    assert (told["source.address"], told["destination.port"]) == ("192.0.2.7", "53")


def test_what_is_refused_for_good_is_dropped_and_counted(receiver: Receiver) -> None:
    flows = hubble.Flows()
    bridge = hubble.Bridge(flows, Exporter(receiver.url), "hubble")
    flows.take(_lines(DROPPED))
    receiver.status = 400
    bridge.send()
    assert bridge.amiss
    assert (flows.records, flows.dropped) == ([], 1)


@contextlib.contextmanager
def _started(url: str, interval: str) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-m", "harness.agent.hubble", "--otlp", url, "--interval", interval]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stderr=pipe) as process:
        yield process
        process.kill()


def test_a_line_in_pieces_is_one_and_the_end_sends_the_rest(receiver: Receiver) -> None:
    line = _lines(FORWARDED)
    with _started(receiver.url, "60") as process:
        assert process.stdin is not None
        for piece in (line[:40], line[40:] + _lines(DROPPED, LOST), line[:-1]):
            process.stdin.write(piece)
            process.stdin.flush()
        process.stdin.close()
        assert process.wait(PATIENCE_SECONDS) == 0
    assert receiver.points() == {"hubble.flows": 3, "hubble.flows.lost": 5}
    assert len(receiver.records()) == 1


def test_it_sends_by_the_clock_and_ends_on_a_signal(receiver: Receiver) -> None:
    with _started(receiver.url, "0.1") as process:
        assert process.stdin is not None
        process.stdin.write(_lines(FORWARDED))
        process.stdin.flush()
        assert until(lambda: receiver.got)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0


def test_a_second_signal_does_not_lose_what_is_sent_by_the_first(receiver: Receiver) -> None:
    with _started(receiver.url, "0.1") as process:
        assert process.stdin is not None
        process.stdin.write(_lines(FORWARDED))
        process.stdin.flush()
        assert until(lambda: receiver.got)
        receiver.answers.clear()
        asked = receiver.asked
        os.kill(process.pid, signal.SIGTERM)
        assert until(lambda: receiver.asked > asked)
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGINT)
        receiver.answers.set()
        assert process.wait(PATIENCE_SECONDS) == 0
    assert receiver.points()["hubble.flows"] == 1


def test_what_could_not_be_read_is_told_at_the_end(receiver: Receiver) -> None:
    with _started(receiver.url, "60") as process:
        _, said = process.communicate(b"no JSON\n" + _lines(FORWARDED), timeout=PATIENCE_SECONDS)
    assert process.returncode == 2
    assert b"1 lines could not be read" in said
    assert receiver.points() == {"hubble.flows": 1, "hubble.flows.lost": 1}


@pytest.mark.parametrize(
    ("url", "words"),
    [("http://127.0.0.1:9", b"did not reach http://127.0.0.1:9"), ("nowhere", b"is no URL")],
)
def test_without_a_receiver_it_says_so_and_fails(url: str, words: bytes) -> None:
    with _started(url, "60") as process:
        _, said = process.communicate(_lines(FORWARDED), timeout=PATIENCE_SECONDS)
        assert process.returncode == 2
        assert words in said
