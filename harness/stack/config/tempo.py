"""Tempo: traces on the disk; service graphs and span metrics go to Prometheus."""

from __future__ import annotations

from harness.stack.config.description import Program, Stack, Tree


def render(stack: Stack) -> Tree:
    """Its file.

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
        # no ring: with one it waits a minute for others before it is ready
        "compactor": {"compaction": {"block_retention": f"{stack.retention_hours}h"}},
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
            "defaults": {
                "metrics_generator": {"processors": ["service-graphs", "span-metrics"]},
                # what shields tenants from each other would here only lose spans
                "ingestion": {
                    "rate_limit_bytes": 500_000_000,
                    "burst_size_bytes": 1_000_000_000,
                    "max_traces_per_user": 0,
                },
            }
        },
    }


PROGRAM = Program(
    render,
    lambda s: [f"-config.file={s.file('tempo')}"],
    lambda s: s.url(s.ports.tempo) + "/ready",
    lambda p: (p.tempo, p.tempo_grpc, p.tempo_otlp),
)
