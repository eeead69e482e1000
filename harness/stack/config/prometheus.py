"""Prometheus: takes OTLP and remote write, scrapes the stack itself, evaluates its rules."""

from __future__ import annotations

from harness.stack import rules
from harness.stack.config.description import Program, Stack, Tree

RULES = "rules.yaml"
LATE_HOURS = 6
"""How long samples may have waited in the Collector's queue; older ones are refused for good."""
PROMOTED = (
    "service.name",
    "service.namespace",
    "service.instance.id",
    "host.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.node.name",
    "k8s.deployment.name",
    "k8s.cluster.name",
    "harness.run",
)
"""The resource attributes that become labels of each series that comes by OTLP."""


def render(stack: Stack) -> Tree:
    """Its file; exemplars are kept, and so are samples that waited in the Collector's queue."""
    ports = stack.ports
    own = {
        "otelcol": ports.collector_metrics,
        "prometheus": ports.prometheus,
        "tempo": ports.tempo,
        "loki": ports.loki,
    }
    interval = f"{stack.scrape_seconds}s"
    return {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [str(stack.folder / RULES)],
        "otlp": {"promote_resource_attributes": list(PROMOTED)},
        "storage": {
            # what waited in the Collector's queue is older than what came since
            "tsdb": {"out_of_order_time_window": f"{LATE_HOURS}h"},
            "exemplars": {"max_exemplars": 100_000},
        },
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": [_target(stack, port)]}]}
            for name, port in own.items()
        ],
    }


def _target(stack: Stack, port: int) -> str:
    inner = port in stack.ports.inner()
    return f"127.0.0.1:{port}" if inner else stack.url(port).removeprefix("http://")


PROGRAM = Program(
    render,
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
    files=lambda s: {RULES: rules.rules()},
)
