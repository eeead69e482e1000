"""`python -m harness.agent.hubble`: Hubble's flows, a JSON object a line on stdin, become OTLP.

    hubble observe --follow --output jsonpb | python -m harness.agent.hubble --otlp URL

Flows are counted by who they are between, protocol and verdict; one that was not let through is a
log record, too. What a receiver does not take waits: records up to WAITING, counts are cumulative.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from harness.agent.errors import AgentError, RefusedError
from harness.agent.origin import Origin
from harness.agent.otlp import Exporter
from harness.agent.telemetry import Log, Point, Readings, counter

SERIES = 4096  # between whom flows are told; more of them are told together
WAITING = 8192
PASSED = ("FORWARDED", "REDIRECTED", "TRACED", "TRANSLATED", "AUDIT")  # that: as without a policy
Key = tuple[tuple[str, str | bool], ...]
OTHER: Key = (("otel.metric.overflow", True),)
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SIDES = ("source", "destination")
_CHUNK = 65536
_LOST = "What Hubble lost, lines not read, and records dropped, whose flows are counted."


class Flows:
    """What was read: counts by attributes, records of what was not let through."""

    def __init__(self) -> None:
        self.counts: Counter[Key] = Counter()
        self.records: list[Log] = []
        self.dropped = self.lost = self.unread = 0

    def take(self, line: bytes) -> None:
        """One line: a flow, or what else Hubble tells, of which what it lost is counted."""
        try:
            said = json.loads(line)
            flow = said.get("flow")
            if flow is not None:
                self._flow(flow)
            elif "lost_events" in said:
                self.lost += int(said["lost_events"].get("num_events_lost", 0))
        except (ValueError, AttributeError, TypeError):
            self.unread += 1

    def _flow(self, flow: Mapping[str, Any]) -> None:
        told = attributes(flow)
        key: Key = tuple(told.items())
        self.counts[key if key in self.counts or len(self.counts) < SERIES else OTHER] += 1
        if flow.get("verdict") in PASSED:
            return
        if len(self.records) >= WAITING:
            self.dropped += 1
            return
        more = {"hubble.drop_reason": flow.get("drop_reason_desc"), **dict(_addresses(flow))}
        known = {name: str(value) for name, value in more.items() if value}
        self.records.append(Log("hubble.flow", time.monotonic_ns(), {**told, **known}, _said(flow)))

    def readings(self) -> Readings:
        """All counts so far."""
        flows = [Point(dict(key), number) for key, number in self.counts.items()]
        amiss = {"lost": self.lost, "unread": self.unread, "dropped": self.dropped}
        missing = [Point({"error.type": why}, number) for why, number in amiss.items() if number]
        return Readings(
            [
                counter("hubble.flows", "{flow}", flows, "Flows that Hubble told of."),
                counter("hubble.flows.lost", "{flow}", missing, _LOST),
            ]
        )


def attributes(flow: Mapping[str, Any]) -> dict[str, str]:
    """Between whom a flow is, by which protocol, and what became of it; what is not known lacks."""
    found: dict[str, Any] = {"hubble.verdict": str(flow.get("verdict", "unknown")).lower()}
    for side in _SIDES:
        end, service = flow.get(side) or {}, flow.get(f"{side}_service") or {}
        found[f"{side}.k8s.namespace.name"] = end.get("namespace") or service.get("namespace")
        found[f"{side}.k8s.pod.name"] = end.get("pod_name")
        found[f"{side}.service.name"] = service.get("name")
        if not end.get("pod_name"):
            labels = (str(each) for each in end.get("labels") or ())
            reserved = (each.partition(":")[2] for each in labels if each.startswith("reserved:"))
            found[f"{side}.cilium.identity"] = next(reserved, None)
    found["network.transport"] = next((each.lower() for each in flow.get("l4") or ()), None)
    known = ("http", "dns", "kafka")
    found["network.protocol.name"] = next((e for e in known if e in (flow.get("l7") or ())), None)
    found["hubble.traffic_direction"] = str(flow.get("traffic_direction") or "").lower()
    return {name: str(value) for name, value in found.items() if value}


def _addresses(flow: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Which would make a series each, and are told of a record."""
    ends = flow.get("IP") or {}
    ports: Mapping[str, Any] = next(iter((flow.get("l4") or {}).values()), {})
    for side in _SIDES:
        yield f"{side}.address", ends.get(side)
        yield f"{side}.port", ports.get(f"{side}_port")


def _said(flow: Mapping[str, Any]) -> str:
    ends = [(flow.get(side) or {}).get("pod_name") or (flow.get("IP") or {}).get(side, "somebody")
            for side in _SIDES]  # fmt: skip
    why = flow.get("drop_reason_desc")
    told = f"{ends[0]} to {ends[1]}: {str(flow.get('verdict', 'unknown')).lower()}"
    return f"{told} ({why})" if why else told


class Bridge:
    """Sends what `flows` has, every `interval` seconds and at the end."""

    def __init__(self, flows: Flows, exporter: Exporter, service: str) -> None:
        self._flows, self._exporter = flows, exporter
        self._origin = Origin("hubble", service, lambda: None)
        self.amiss = ""

    def send(self) -> None:
        """Try once; what no receiver took is tried with the next, `amiss` says why."""
        records, self.amiss = list(self._flows.records), ""
        try:
            if records:
                self._exporter.send_logs([(self._origin, records)])
        except RefusedError as error:
            self._flows.dropped += len(records)
            self.amiss = str(error)
        except AgentError as error:
            self.amiss, records = str(error), []
        del self._flows.records[: len(records)]
        try:
            self._exporter.send_metrics([(self._origin, self._flows.readings())])
        except AgentError as error:
            self.amiss = str(error)


def run(descriptor: int, bridge: Bridge, flows: Flows, interval: float) -> None:
    """Until the end of what is read."""

    due, rest = time.monotonic() + interval, b""
    while True:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, due - time.monotonic()))
        if ready:
            if not (chunk := os.read(descriptor, _CHUNK)):
                break
            *lines, rest = (rest + chunk).split(b"\n")
            for line in filter(bytes.strip, lines):
                flows.take(line)
        if time.monotonic() >= due:
            bridge.send()
            due = time.monotonic() + interval
            if bridge.amiss:
                print(bridge.amiss, file=sys.stderr, flush=True)
    if rest.strip():
        flows.take(rest)


def _stop(*_: object) -> NoReturn:
    _ignore()
    raise KeyboardInterrupt


def _ignore() -> None:
    """A second signal, and any while the rest is sent, would lose that."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def main(arguments: list[str] | None = None) -> int:
    """0 when all was read and sent, 2 when it was not."""
    parser = argparse.ArgumentParser(prog="python -m harness.agent.hubble", allow_abbrev=False)
    parser.add_argument("--otlp", required=True, help="base URL of an OTLP/HTTP receiver")
    parser.add_argument("--service-name", default="hubble", help="resource attribute")
    parser.add_argument("--interval", type=float, default=3.0, help="seconds between exports")
    options = parser.parse_args(arguments)
    for number in _SIGNALS:
        signal.signal(number, _stop)
    flows = Flows()
    try:
        bridge = Bridge(flows, Exporter(options.otlp), options.service_name)
    except AgentError as error:
        print(error, file=sys.stderr)
        return 2
    with contextlib.suppress(KeyboardInterrupt):  # what was read is sent
        run(sys.stdin.fileno(), bridge, flows, options.interval)
    _ignore()
    bridge.send()
    missing = ""
    if flows.dropped or flows.unread:
        missing = (
            f"Not all was told. {flows.unread} lines could not be read, {flows.dropped} records "
            "had no room or were refused. Give Hubble `--output jsonpb`, and look at the receiver."
        )
    for each in filter(None, (bridge.amiss, missing)):
        print(each, file=sys.stderr)
    return 2 if bridge.amiss or missing else 0


if __name__ == "__main__":
    sys.exit(main())
