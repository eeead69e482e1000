"""The OpenTelemetry Collector: OTLP in; traces, metrics and logs out to the backends."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from harness.stack.config.description import Program, Stack, Tree

QUEUE = "file_storage/queue"
PODS = "k8s_attributes"
NAMED = (
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.pod.uid",
    "k8s.node.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.job.name",
    "k8s.container.name",
    "service.name",
)
"""What the cluster's API is asked of a pod, for each record that says of which one it is."""
NAMELESS = "unknown_service"  # what OpenTelemetry calls a service of which nobody knows the name


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
        if store.exporter is None:
            continue  # nothing of it comes this way
        kind, settings = store.exporter(stack)
        exporters[f"{kind}/{keeper}"] = {**settings, **_delivery(stack)}
        pipelines[signal] = _pipeline(stack, f"{kind}/{keeper}")
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
            **({PODS: pods()} if stack.names_pods else {}),
            "resource": {"attributes": _inserted_all(_said(stack))},
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


def pods() -> Tree:
    """How a record gets the names of its pod: by the pod's uid, where it has none by its container.

    The first of both that a record has is taken, known to the API or not. The sender's address
    says nothing: agents tell of others' pods. A Deployment's name is that of its ReplicaSet without
    the hash, so that nothing but pods need be watched. It waits until it knows them: what comes
    before would have no names.
    """
    by = ("k8s.pod.uid", "container.id")
    return {
        "extract": {
            "metadata": list(NAMED),
            "otel_annotations": True,
            "deployment_name_from_replicaset": True,
        },
        "pod_association": [
            {"sources": [{"from": "resource_attribute", "name": name}]} for name in by
        ],
        "wait_for_metadata": True,
        "wait_for_metadata_timeout": "60s",
    }


def _said(stack: Stack) -> Mapping[str, str]:
    """What is said of records that do not say it themselves."""
    return {
        **(stack.resource or host()),
        **({"service.name": NAMELESS} if stack.names_pods else {}),
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


def _pipeline(stack: Stack, exporter: str) -> Tree:
    processors = ["memory_limiter", *([PODS] if stack.names_pods else []), "resource"]
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
