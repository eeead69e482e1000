"""What a person decides about the stack, and what has to be said of each of its programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.stack import catalog
from harness.stack.questions import Keeper
from harness.stack.searches import Search

Tree = dict[str, Any]

KEEPS = {"traces": "jaeger", "metrics": "prometheus", "logs": "victorialogs"}
"""Signal -> the component that keeps it, where nothing else is chosen."""


@dataclass(frozen=True)
class Stack:
    """What a person decides about the stack.

    `bind` is the address of what others talk to (OTLP and the query endpoints); what only the
    components say to each other stays on loopback. `folder` holds configuration, data and logs.
    `keeps` says which component keeps each signal. `ports` are those that differ from the
    catalog's, by component and what they are for: `prometheus.http`.
    `profiles_url` is of a Pyroscope that runs elsewhere, to which Grafana then links.
    `hosts` are the names of components that each have an address of their own, as in a cluster;
    `resource` is said there of records that say nothing of where they are from. With `names_pods`
    the Collector asks the cluster's API what the pods are called that records are of. `plugins` are
    the data sources that Grafana has besides those that it comes with. `urls` are where components
    are asked that somebody else runs.
    """

    folder: Path
    bind: str = "127.0.0.1"
    keeps: Mapping[str, str] = field(default_factory=lambda: dict(KEEPS))
    ports: Mapping[str, int] = field(default_factory=dict)
    retention_hours: int = 24
    scrape_seconds: int = 5
    collector_memory_mb: int = 512
    queue_items: int = 1_000_000
    profiles_url: str = ""
    hosts: Mapping[str, str] = field(default_factory=dict)
    resource: Mapping[str, str] = field(default_factory=dict)
    names_pods: bool = False
    plugins: tuple[str, ...] = ()
    urls: Mapping[str, str] = field(default_factory=dict)

    def data(self, component: str) -> str:
        """The folder for a component's data."""
        return str(self.folder / "data" / component)

    def file(self, component: str) -> Path:
        """The component's configuration."""
        return self.folder / f"{component}.yaml"

    def port(self, component: str, use: str = "http") -> int:
        """Where a component listens for this use."""
        changed = self.ports.get(f"{component}.{use}")
        return catalog.known()[component].ports[use] if changed is None else changed

    def address(self, component: str, use: str = "http") -> str:
        """The address on which it listens for that."""
        if component in self.hosts:
            return "0.0.0.0"
        found = catalog.known().get(component)
        return "127.0.0.1" if found is not None and use in found.inner else self.bind

    def listens(self, component: str, use: str = "http") -> str:
        """Address and port on which it listens."""
        return f"{self.address(component, use)}:{self.port(component, use)}"

    def reached(self, component: str, use: str = "http") -> str:
        """Address and port at which the others reach it."""
        if component in self.hosts:
            return f"{self.hosts[component]}:{self.port(component, use)}"
        address = self.address(component, use)
        host = "127.0.0.1" if address == "0.0.0.0" else address
        return f"{host}:{self.port(component, use)}"

    def url(self, component: str, use: str = "http") -> str:
        """The same as the beginning of a URL."""
        return self.urls.get(component) or f"http://{self.reached(component, use)}"

    @property
    def otlp_url(self) -> str:
        """Where telemetry is sent to, by OTLP over HTTP."""
        return self.url("otelcol")


@dataclass(frozen=True)
class Store:
    """What a component that keeps a signal adds to its program.

    `exporter` is the Collector's: its kind and its settings; None of one that agents send to
    themselves, and then `write` puts a record with a mark there, and `collectors` makes of its URL
    the arguments by which agents do, by their collectors' names. `ask` makes of the URL of its
    query endpoint what can be asked of it: a `Traces`, `Metrics`, `Logs` or `Profiles`.

    `target` makes of a dashboard's search what Grafana's data source is told, None if it cannot be
    asked that; `settings` are the data source's own. `span_metrics` says whether it makes metrics
    of spans, as Tempo's generator names them. `called` is its name for an attribute of a record,
    `probe` a path of its query endpoint that is answered whatever it keeps.
    """

    exporter: Callable[[Stack], tuple[str, Tree]] | None
    ask: Callable[[str], Keeper]
    write: Callable[[str, str], None] | None = None
    collectors: Callable[[str], Mapping[str, Sequence[str]]] = lambda url: {}
    target: Callable[[Search], Tree | None] = lambda search: None
    settings: Callable[[Stack], Tree] = lambda stack: {}
    span_metrics: bool = False
    called: Callable[[str], str] = str
    probe: str = "/"


@dataclass(frozen=True)
class Program:
    """How one component is configured, started and asked whether it is ready.

    `render` is of its main file, None if it has none; `files` are further ones, by their names in
    the stack's folder. For each of `secrets`, names too, a password is made that only root reads.
    `store` is what it adds if it keeps a signal.
    """

    render: Callable[[Stack], Tree] | None
    arguments: Callable[[Stack], list[str]]
    ready: Callable[[Stack], str]
    files: Callable[[Stack], Mapping[str, Tree]] = lambda stack: {}
    environment: Callable[[Stack], Mapping[str, str]] = lambda stack: {}
    secrets: tuple[str, ...] = ()
    store: Store | None = None
