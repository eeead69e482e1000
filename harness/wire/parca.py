"""What Parca is sent and asked, by gRPC-Web at the port of its pages; for the agent and the stack.

https://github.com/parca-dev/parca/tree/v0.21.0/proto/parca: what is never used is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.wire import protobuf

WRITE = "/parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw"
QUERY = "/parca.query.v1alpha1.QueryService/Query"
NAME = "process_cpu"
"""What Parca's own agent and scrapes call CPU profiles: pages offer them under one name."""
CPU = f"{NAME}:cpu:nanoseconds:cpu:nanoseconds:delta"
MERGE, PPROF = 2, 1  # QueryRequest's Mode and ReportType: all that match as one, as a profile

_TYPES = protobuf.messages(
    "harness/parca.proto",
    "harness.parca",
    {
        "Label": [("name", 1, "string"), ("value", 2, "string")],
        "LabelSet": [("labels", 1, "Label*")],
        "RawSample": [("raw_profile", 1, "bytes")],
        "RawProfileSeries": [("labels", 1, "LabelSet"), ("raw", 2, "RawSample*")],
        "WriteRawRequest": [("series", 2, "RawProfileSeries*"), ("normalized", 3, "bool")],
        "Timestamp": [("seconds", 1, "int64"), ("nanos", 2, "int32")],
        "MergeProfile": [
            ("query", 1, "string"),
            ("start", 2, "Timestamp"),
            ("end", 3, "Timestamp"),
        ],
        "QueryRequest": [
            ("mode", 1, "int32"),
            ("merge", 3, "MergeProfile"),
            ("report_type", 5, "int32"),
        ],
        "QueryResponse": [("pprof", 6, "bytes"), ("total", 9, "int64")],
    },
)
WriteRawRequest: Any = _TYPES["WriteRawRequest"]
QueryRequest: Any = _TYPES["QueryRequest"]
QueryResponse: Any = _TYPES["QueryResponse"]


def add(request: Any, attributes: Mapping[str, str | int], profile: bytes) -> None:
    """Let a WriteRawRequest hold one more pprof profile, of what has these attributes."""
    series = request.series.add()
    series.labels.labels.add(name="__name__", value=NAME)
    for name, value in sorted(
        {label(name): str(value) for name, value in attributes.items()}.items()
    ):
        series.labels.labels.add(name=name, value=value)
    series.raw.add(raw_profile=profile)


def label(attribute: str) -> str:
    """An attribute's name as a label: ASCII letters, digits and _, and no digit first."""
    return re.sub(r"^(?![A-Za-z_])", "_", re.sub(r"[^A-Za-z0-9_]", "_", attribute))


def query(selector: str, start_unix_ns: int, end_unix_ns: int) -> bytes:
    """The QueryRequest for all CPU profiles of that time whose labels match, merged into one."""
    request = QueryRequest(mode=MERGE, report_type=PPROF)
    request.merge.query = f"{CPU}{{{selector}}}"
    for field, ns in (("start", start_unix_ns), ("end", end_unix_ns)):
        getattr(request.merge, field).seconds, getattr(request.merge, field).nanos = divmod(
            ns, 10**9
        )
    return bytes(request.SerializeToString())
