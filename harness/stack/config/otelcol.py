"""The OpenTelemetry Collector: OTLP in; traces, metrics and logs out to the backends."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from harness.stack.config.description import Program, Stack, Tree

QUEUE = "file_storage/queue"


def render(stack: Stack, programs: Mapping[str, Program]) -> Tree:
    """Its file: each signal with a queue on the disk, to the one of `programs` that keeps it.

    Batches are made behind the queue (`sending_queue.batch`), not by the batch processor in front
    of it, which would lose what it holds when the Collector is killed.
    """
    exporters: dict[str, Tree] = {}
    pipelines: dict[str, Tree] = {}
    for signal, keeper in stack.keeps.items():
        store = programs[keeper].store
        assert store is not None
        kind, settings = store.exporter(stack)
        exporters[f"{kind}/{keeper}"] = {**settings, **_delivery(stack)}
        pipelines[signal] = _pipeline(f"{kind}/{keeper}")
    return {
        "extensions": {
            "health_check": {"endpoint": stack.listens("otelcol", "health")},
            QUEUE: {"directory": stack.data("otelcol"), "create_directory": True},
        },
        "receivers": {
            "otlp": {
                "protocols": {
                    "grpc": {"endpoint": stack.listens("otelcol", "grpc")},
                    "http": {"endpoint": stack.listens("otelcol", "http")},
                }
            }
        },
        "processors": {
            "memory_limiter": {
                "check_interval": "1s",
                "limit_mib": stack.collector_memory_mb,
                "spike_limit_mib": stack.collector_memory_mb // 4,
            },
            "resource": {"attributes": _inserted_all(stack.resource or host())},
        },
        "exporters": exporters,
        "service": {
            "extensions": ["health_check", QUEUE],
            "pipelines": pipelines,
            "telemetry": {"metrics": {"level": "normal", "readers": [_reader(stack)]}},
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


def _inserted_all(values: Mapping[str, str]) -> list[Tree]:
    return [{"key": key, "value": value, "action": "insert"} for key, value in values.items()]


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


def _reader(stack: Stack) -> Tree:
    where = {"host": stack.address("otelcol", "metrics"), "port": stack.port("otelcol", "metrics")}
    return {"pull": {"exporter": {"prometheus": where}}}


def program(programs: Mapping[str, Program]) -> Program:
    """The Collector in front of these."""
    return Program(
        lambda s: render(s, programs),
        lambda s: [f"--config={s.file('otelcol')}"],
        lambda s: s.url("otelcol", "health") + "/",
    )
