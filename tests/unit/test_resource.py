"""What an agent says that its telemetry is of."""

from __future__ import annotations

import socket

import pytest

from harness.agent import origin


def test_without_more_it_is_of_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    found = origin.resource({"service.name": "shop"})
    assert found == {"host.name": socket.gethostname(), "service.name": "shop"}


def test_the_environment_adds_to_it_and_names_the_node_but_not_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = "host.name=worker,k8s.node.name=worker,service.name=other"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", said)
    found = origin.resource({"service.name": "shop"})
    assert found["host.name"] == found["k8s.node.name"] == "worker"
    assert found["service.name"] == "shop"
