"""One typed description of the stack, and the files and commands that follow; for `rollout`.

The files are JSON, which every reader of YAML reads: nothing has to be quoted by hand.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Tree = dict[str, Any]

QUEUE = "file_storage/queue"


@dataclass(frozen=True)
class Ports:
    """Where each component listens; all on the stack's address."""

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


@dataclass(frozen=True)
class Stack:
    """What a person decides about the stack.

    `bind` is the address of what others talk to (OTLP and the query endpoints); what only the
    components say to each other stays on loopback. `folder` holds configuration, data and logs.
    """

    folder: Path
    bind: str = "127.0.0.1"
    ports: Ports = Ports()
    retention_hours: int = 24
    scrape_seconds: int = 5
    collector_memory_mb: int = 512
    queue_items: int = 1_000_000

    def data(self, component: str) -> str:
        """The folder for a component's data."""
        return str(self.folder / "data" / component)

    def file(self, component: str) -> Path:
        """The component's configuration."""
        return self.folder / f"{component}.yaml"

    def url(self, port: int) -> str:
        """An address on this machine at which a component of ours answers."""
        host = "127.0.0.1" if self.bind in ("0.0.0.0", "127.0.0.1") else self.bind
        return f"http://{host}:{port}"


@dataclass(frozen=True)
class Program:
    """How one component is configured, started, asked whether it is ready, and where it listens."""

    render: Callable[[Stack], Tree]
    arguments: Callable[[Stack], list[str]]
    ready: Callable[[Stack], str]
    listens: Callable[[Ports], tuple[int, ...]]


def otelcol(stack: Stack) -> Tree:
    """The Collector: OTLP in; traces, metrics and logs out, each with a queue on the disk.

    Batches are made behind the queue (`sending_queue.batch`), not by the batch processor in front
    of it, which would lose what it holds when the Collector is killed.
    """
    ports = stack.ports
    exporters: dict[str, Tree] = {
        "otlp_grpc/tempo": {
            "endpoint": f"127.0.0.1:{ports.tempo_otlp}",
            "tls": {"insecure": True},
        },
        "otlp_http/prometheus": {
            "metrics_endpoint": stack.url(ports.prometheus) + "/api/v1/otlp/v1/metrics"
        },
        "otlp_http/loki": {"logs_endpoint": stack.url(ports.loki) + "/otlp/v1/logs"},
    }
    return {
        "extensions": {
            "health_check": {"endpoint": f"127.0.0.1:{ports.collector_health}"},
            QUEUE: {"directory": stack.data("otelcol"), "create_directory": True},
        },
        "receivers": {
            "otlp": {
                "protocols": {
                    "grpc": {"endpoint": f"{stack.bind}:{ports.otlp_grpc}"},
                    "http": {"endpoint": f"{stack.bind}:{ports.otlp_http}"},
                }
            }
        },
        "processors": {
            "memory_limiter": {
                "check_interval": "1s",
                "limit_mib": stack.collector_memory_mb,
                "spike_limit_mib": stack.collector_memory_mb // 4,
            },
            "resource": {"attributes": [_inserted(key, value) for key, value in host().items()]},
        },
        "exporters": {name: {**one, **_delivery(stack)} for name, one in exporters.items()},
        "service": {
            "extensions": ["health_check", QUEUE],
            "pipelines": {
                "traces": _pipeline("otlp_grpc/tempo"),
                "metrics": _pipeline("otlp_http/prometheus"),
                "logs": _pipeline("otlp_http/loki"),
            },
            "telemetry": {"metrics": {"level": "normal", "readers": [_reader(ports)]}},
        },
    }


def host() -> dict[str, str]:
    """What is said of this machine with each record that does not say it itself.

    The Collector's own detection would bring the clients of every cloud into its program.
    """
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    machine = platform.machine()
    return {
        "host.name": platform.node(),
        "host.arch": names.get(machine, machine),
        "os.type": platform.system().lower(),
    }


def _inserted(key: str, value: str) -> Tree:
    return {"key": key, "value": value, "action": "insert"}


def _delivery(stack: Stack) -> Tree:
    batch = {"flush_timeout": "200ms", "min_size": 512, "max_size": 4096}
    return {
        "retry_on_failure": {
            "initial_interval": "500ms",
            "max_interval": "5s",
            "max_elapsed_time": "0s",  # never give up: the queue's size is the limit
        },
        "sending_queue": {
            "storage": QUEUE,
            "sizer": "items",
            "queue_size": stack.queue_items,
            "batch": batch,
        },
    }


def _pipeline(exporter: str) -> Tree:
    processors = ["memory_limiter", "resource"]
    return {"receivers": ["otlp"], "processors": processors, "exporters": [exporter]}


def _reader(ports: Ports) -> Tree:
    where = {"host": "127.0.0.1", "port": ports.collector_metrics}
    return {"pull": {"exporter": {"prometheus": where}}}


def prometheus(stack: Stack) -> Tree:
    """Prometheus: takes OTLP and remote write, scrapes the stack itself, keeps exemplars."""
    ports = stack.ports
    own = {
        "otelcol": ports.collector_metrics,
        "prometheus": ports.prometheus,
        "tempo": ports.tempo,
        "loki": ports.loki,
    }
    return {
        "global": {"scrape_interval": f"{stack.scrape_seconds}s"},
        "otlp": {
            "promote_resource_attributes": [
                "service.name",
                "service.namespace",
                "service.instance.id",
                "host.name",
            ]
        },
        "storage": {
            # what waited in the Collector's queue is older than what came since
            "tsdb": {"out_of_order_time_window": "30m"},
            "exemplars": {"max_exemplars": 100_000},
        },
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": [_host(stack, port)]}]}
            for name, port in own.items()
        ],
    }


def _host(stack: Stack, port: int) -> str:
    inner = port == stack.ports.collector_metrics
    return f"127.0.0.1:{port}" if inner else stack.url(port).removeprefix("http://")


def tempo(stack: Stack) -> Tree:
    """Tempo: traces on the disk; service graph and span metrics go to Prometheus.

    A trace that was idle for a second is written to the log on disk (`trace_idle_period`): what
    Tempo acknowledged is in memory only until then.
    """
    ports = stack.ports
    ring = {"kvstore": {"store": "inmemory"}}
    return {
        "server": {
            "http_listen_address": stack.bind,
            "http_listen_port": ports.tempo,
            "grpc_listen_address": "127.0.0.1",
            "grpc_listen_port": ports.tempo_grpc,
        },
        "usage_report": {"reporting_enabled": False},
        "distributor": {
            "ring": {**ring, "instance_addr": "127.0.0.1"},
            # told when to come back, the Collector keeps what was refused; else it drops it
            "retry_after_on_resource_exhausted": "1s",
            "receivers": {
                "otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{ports.tempo_otlp}"}}}
            },
        },
        "ingester": {
            "lifecycler": {
                "address": "127.0.0.1",
                "ring": {**ring, "replication_factor": 1},
                "min_ready_duration": "0s",
                "final_sleep": "0s",
            },
            "trace_idle_period": "1s",
            "flush_check_period": "1s",
            "max_block_duration": "5m",
        },
        "querier": {"frontend_worker": {"frontend_address": f"127.0.0.1:{ports.tempo_grpc}"}},
        "compactor": {
            "ring": {**ring, "instance_addr": "127.0.0.1"},
            "compaction": {"block_retention": f"{stack.retention_hours}h"},
        },
        "metrics_generator": {
            "ring": {**ring, "instance_addr": "127.0.0.1"},
            "storage": {
                "path": stack.data("tempo/generator"),
                "remote_write": [
                    {
                        "url": stack.url(ports.prometheus) + "/api/v1/write",
                        "send_exemplars": True,
                    }
                ],
            },
        },
        "storage": {
            "trace": {
                "backend": "local",
                "local": {"path": stack.data("tempo/blocks")},
                "wal": {"path": stack.data("tempo/wal")},
            }
        },
        "overrides": {
            "defaults": {"metrics_generator": {"processors": ["service-graphs", "span-metrics"]}}
        },
    }


def loki(stack: Stack) -> Tree:
    """Loki: one process, index tsdb with schema v13, files on the disk, with retention."""
    ports = stack.ports
    return {
        "auth_enabled": False,
        "analytics": {"reporting_enabled": False},
        "server": {
            "http_listen_address": stack.bind,
            "http_listen_port": ports.loki,
            "grpc_listen_address": "127.0.0.1",
            "grpc_listen_port": ports.loki_grpc,
            "log_level": "warn",
        },
        "common": {
            "instance_addr": "127.0.0.1",
            "path_prefix": stack.data("loki"),
            "replication_factor": 1,
            "ring": {"kvstore": {"store": "inmemory"}},
            "storage": {
                "filesystem": {
                    "chunks_directory": stack.data("loki/chunks"),
                    "rules_directory": stack.data("loki/rules"),
                }
            },
        },
        "ingester": {"lifecycler": {"min_ready_duration": "0s", "final_sleep": "0s"}},
        "schema_config": {
            "configs": [
                {
                    "from": "2024-01-01",
                    "store": "tsdb",
                    "object_store": "filesystem",
                    "schema": "v13",
                    "index": {"prefix": "index_", "period": "24h"},
                }
            ]
        },
        "limits_config": {
            "allow_structured_metadata": True,
            "retention_period": f"{max(24, stack.retention_hours)}h",
            "volume_enabled": True,
        },
        "compactor": {
            "working_directory": stack.data("loki/compactor"),
            "retention_enabled": True,
            "delete_request_store": "filesystem",
        },
    }


PROGRAMS: dict[str, Program] = {
    "prometheus": Program(
        prometheus,
        lambda s: [
            f"--config.file={s.file('prometheus')}",
            f"--storage.tsdb.path={s.data('prometheus')}",
            f"--storage.tsdb.retention.time={s.retention_hours}h",
            f"--web.listen-address={s.bind}:{s.ports.prometheus}",
            "--web.enable-otlp-receiver",
            "--web.enable-remote-write-receiver",
            "--enable-feature=exemplar-storage",
        ],
        lambda s: s.url(s.ports.prometheus) + "/-/ready",
        lambda p: (p.prometheus,),
    ),
    "tempo": Program(
        tempo,
        lambda s: [f"-config.file={s.file('tempo')}"],
        lambda s: s.url(s.ports.tempo) + "/ready",
        lambda p: (p.tempo, p.tempo_grpc, p.tempo_otlp),
    ),
    "loki": Program(
        loki,
        lambda s: [f"-config.file={s.file('loki')}"],
        lambda s: s.url(s.ports.loki) + "/ready",
        lambda p: (p.loki, p.loki_grpc),
    ),
    "otelcol": Program(
        otelcol,
        lambda s: [f"--config={s.file('otelcol')}"],
        lambda s: f"http://127.0.0.1:{s.ports.collector_health}/",
        lambda p: (p.otlp_grpc, p.otlp_http, p.collector_health, p.collector_metrics),
    ),
}
"""The components that can be started, the receiving end before the Collector that sends to it."""


def write(stack: Stack, component: str) -> list[str]:
    """Write the component's file and make its data folder; the arguments of its program."""
    program = PROGRAMS[component]
    Path(stack.data(component)).mkdir(parents=True, exist_ok=True)
    stack.file(component).write_text(json.dumps(program.render(stack), indent=2) + "\n")
    return program.arguments(stack)
