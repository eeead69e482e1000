"""What a person decides about the stack, and what has to be said of each of its programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Tree = dict[str, Any]


@dataclass(frozen=True)
class Ports:
    """Where each component listens."""

    otlp_grpc: int = 4317
    otlp_http: int = 4318
    collector_health: int = 13133
    collector_metrics: int = 8888
    prometheus: int = 9090
    tempo: int = 3200
    tempo_grpc: int = 9095
    tempo_otlp: int = 14317
    loki: int = 3100
    loki_grpc: int = 9096
    grafana: int = 3000

    def inner(self) -> tuple[int, ...]:
        """What only the components say to each other: always on loopback."""
        return (
            self.collector_health, self.collector_metrics,
            self.tempo_grpc, self.tempo_otlp, self.loki_grpc,
        )  # fmt: skip


@dataclass(frozen=True)
class Stack:
    """What a person decides about the stack.

    `bind` is the address of what others talk to (OTLP and the query endpoints); what only the
    components say to each other stays on loopback. `folder` holds configuration, data and logs.
    `profiles_url` is of a Pyroscope that runs elsewhere, to which Grafana then links.
    """

    folder: Path
    bind: str = "127.0.0.1"
    ports: Ports = Ports()
    retention_hours: int = 24
    scrape_seconds: int = 5
    collector_memory_mb: int = 512
    queue_items: int = 1_000_000
    profiles_url: str = ""

    def data(self, component: str) -> str:
        """The folder for a component's data."""
        return str(self.folder / "data" / component)

    def file(self, component: str) -> Path:
        """The component's configuration."""
        return self.folder / f"{component}.yaml"

    def address(self, port: int) -> str:
        """The address on which this port is listened to."""
        return "127.0.0.1" if port in self.ports.inner() else self.bind

    def url(self, port: int) -> str:
        """An address on this machine at which a component of ours answers."""
        host = "127.0.0.1" if self.bind in ("0.0.0.0", "127.0.0.1") else self.bind
        return f"http://{host}:{port}"


@dataclass(frozen=True)
class Program:
    """How one component is configured, started, asked whether it is ready, and where it listens.

    `render` is of its main file, None if it has none; `files` are further ones, by their names in
    the stack's folder. For each of `secrets`, names too, a password is made that only root reads.
    """

    render: Callable[[Stack], Tree] | None
    arguments: Callable[[Stack], list[str]]
    ready: Callable[[Stack], str]
    listens: Callable[[Ports], tuple[int, ...]]
    files: Callable[[Stack], Mapping[str, Tree]] = lambda stack: {}
    environment: Callable[[Stack], Mapping[str, str]] = lambda stack: {}
    secrets: tuple[str, ...] = ()
