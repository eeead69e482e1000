"""Crafted messages of one connection, and what `http` makes of them; for tests of its packets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from harness.agent import http_native
from harness.agent.http import LOST, Http
from harness.agent.http_spans import Codec, HttpSpans, InPython
from harness.agent.libbpf import Object
from harness.agent.telemetry import Span
from harness.agent.together import Together
from harness.wire import objects
from tests.bpf.packets import (
    ACK,
    FIN,
    IPV4,
    Flow,
    ipv4,
    run,
)  # fmt: skip

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def get(target: bytes = b"/a", method: bytes = b"GET") -> bytes:
    return method + b" " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n"


def post(body: bytes, header: bytes = b"", told: int | None = None) -> bytes:
    length = b"Content-Length: %d" % (len(body) if told is None else told)
    return b"POST /p HTTP/1.1\r\n" + header + length + b"\r\n\r\n" + body


def answer(status: int, body: bytes = b"ok") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


def loaded(path: Path) -> Object:
    """The programs that packets are run by; there is no socket that could be released or closed."""
    obj = Object(path)
    for name in ("http_release", "http_state"):
        obj.program(name).skip()
    Http(1, Together()).configure(obj)
    obj.load()
    return obj


class Bench:
    """One connection; what goes in and out of it, and what the collector tells of that."""

    def __init__(self, obj: Object, codec: Codec | None = None) -> None:
        self._object = obj
        self.flow = Flow()
        self.spans: list[Span] = []
        for name in ("kept_conn", "kept_queue"):
            obj.map(name).update(bytes(4), bytes(obj.map(name).value_size))
        for name in ("series", "overflow"):
            for key, _ in list(obj.map(name).items()):
                obj.map(name).delete(key)
        obj.set("lost", bytes(8 * len(LOST)))
        obj.set("generation", 1)
        native = codec or http_native.codec(objects.folder())
        assert codec is not None or isinstance(native, http_native.Native), "run `make bpf`"
        self._collector = Http(1, Together(), native)
        self._collector.start(obj)
        self._collector.collect(metrics=False)

    def receive(self, packet: bytes, protocol: int = IPV4, segments: int = 0) -> None:
        assert run(self._object.program("http_ingress"), packet, protocol, segments) == 1

    def send(self, packet: bytes, protocol: int = IPV4, segments: int = 0) -> None:
        assert run(self._object.program("http_egress"), packet, protocol, segments) == 1

    def ask(self, *payloads: bytes) -> list[bytes]:
        """The client's next segments; as packets, to be sent once more."""
        packets = [ipv4(self.flow.request(each)) for each in payloads]
        for each in packets:
            self.receive(each)
        return packets

    def end(self, payload: bytes) -> None:
        """The server's last segment, with its FIN."""
        self.send(ipv4(self.flow.response(payload, ACK | FIN)))

    def reply(self, *payloads: bytes) -> list[bytes]:
        """The server's."""
        packets = [ipv4(self.flow.response(each)) for each in payloads]
        for each in packets:
            self.send(each)
        return packets

    def counted(self) -> dict[tuple[str, str, int], int]:
        """(method, route, status) -> requests."""
        telemetry = self._collector.collect(metrics=True)
        for batch in telemetry.batches:
            assert isinstance(batch, HttpSpans)
            self.spans += [batch.span(i) for i in range(len(batch))]
            expected = InPython().encoded(batch.records, batch.ids, 0)
            assert batch.codec.encoded(batch.records, batch.ids, 0) == expected
        found: Counter[tuple[str, str, int]] = Counter()
        points: dict[str, Any] = {each.name: each.data.data_points for each in telemetry.metrics}
        for point in points.get("http.server.request.duration", ()):
            a = point.attributes
            status = a.get("http.response.status_code", 0)
            found[a["http.request.method"], a["http.route"], status] += sum(point.counts)
        lost = points.get("http.events.lost", ())
        assert {p.attributes["error.type"]: p.value for p in lost} == self.lost()
        return dict(found)

    def told(self, *names: str) -> list[tuple[Any, ...]]:
        """These attributes of each span."""
        self.counted()
        return [tuple(span.attributes.get(name) for name in names) for span in self.spans]

    def close(self) -> None:
        self._collector.close()

    def lost(self) -> dict[str, int]:
        counts = self._collector.counts()
        by_reason = {name.removeprefix("lost_"): int(n) for name, n in counts.more.items() if n}
        assert sum(by_reason.values()) == counts.lost
        return by_reason
