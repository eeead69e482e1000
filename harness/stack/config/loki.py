"""Loki: one process, index tsdb with schema v13, files on the disk, with retention."""

from __future__ import annotations

from harness.stack.config.description import Program, Stack, Tree

LEAST_RETENTION_HOURS = 24
"""The period of its index, which is what Loki drops at once."""


def render(stack: Stack) -> Tree:
    """Its file."""
    ports = stack.ports
    scheduler = {"scheduler_address": f"127.0.0.1:{ports.loki_grpc}"}
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
        # told where it is, they do not wait ten seconds until a ring says it
        "query_scheduler": {"use_scheduler_ring": False},
        "frontend": scheduler,
        "frontend_worker": scheduler,
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
            "retention_period": f"{max(LEAST_RETENTION_HOURS, stack.retention_hours)}h",
            "volume_enabled": True,
            # what shields tenants from each other would here only lose lines
            "ingestion_rate_mb": 256,
            "ingestion_burst_size_mb": 512,
            "per_stream_rate_limit": "256MB",
            "per_stream_rate_limit_burst": "512MB",
        },
        "compactor": {
            "working_directory": stack.data("loki/compactor"),
            "retention_enabled": True,
            "delete_request_store": "filesystem",
        },
    }


PROGRAM = Program(
    render,
    lambda s: [f"-config.file={s.file('loki')}"],
    lambda s: s.url(s.ports.loki) + "/ready",
    lambda p: (p.loki, p.loki_grpc),
)
