"""The OpenTelemetry Collector: OTLP in; traces, metrics and logs out to the backends."""

from __future__ import annotations

import platform

from harness.stack.config.description import Ports, Program, Stack, Tree

QUEUE = "file_storage/queue"


def render(stack: Stack) -> Tree:
    """Its file: each signal with a queue on the disk.

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


PROGRAM = Program(
    render,
    lambda s: [f"--config={s.file('otelcol')}"],
    lambda s: f"http://127.0.0.1:{s.ports.collector_health}/",
    lambda p: (p.otlp_grpc, p.otlp_http, p.collector_health, p.collector_metrics),
)
