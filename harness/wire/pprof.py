"""The message of a pprof profile; the agent makes and reads it, the stack only makes one.

https://github.com/google/pprof/blob/main/proto/profile.proto
"""

from __future__ import annotations

from typing import Any

from harness.wire import protobuf

_SCHEMA = {
    "ValueType": [("type", 1, "int64"), ("unit", 2, "int64")],
    "Label": [("key", 1, "int64"), ("str", 2, "int64"), ("num", 3, "int64")],
    "Sample": [("location_id", 1, "uint64*"), ("value", 2, "int64*"), ("label", 3, "Label*")],
    "Mapping": [
        ("id", 1, "uint64"),
        ("memory_start", 2, "uint64"),
        ("memory_limit", 3, "uint64"),
        ("file_offset", 4, "uint64"),
        ("filename", 5, "int64"),
        ("build_id", 6, "int64"),
        ("has_functions", 7, "bool"),
        ("has_filenames", 8, "bool"),
        ("has_line_numbers", 9, "bool"),
    ],
    "Line": [("function_id", 1, "uint64"), ("line", 2, "int64")],
    "Location": [
        ("id", 1, "uint64"),
        ("mapping_id", 2, "uint64"),
        ("address", 3, "uint64"),
        ("line", 4, "Line*"),
    ],
    "Function": [
        ("id", 1, "uint64"),
        ("name", 2, "int64"),
        ("system_name", 3, "int64"),
        ("filename", 4, "int64"),
        ("start_line", 5, "int64"),
    ],
    "Profile": [
        ("sample_type", 1, "ValueType*"),
        ("sample", 2, "Sample*"),
        ("mapping", 3, "Mapping*"),
        ("location", 4, "Location*"),
        ("function", 5, "Function*"),
        ("string_table", 6, "string*"),
        ("time_nanos", 9, "int64"),
        ("duration_nanos", 10, "int64"),
        ("period_type", 11, "ValueType"),
        ("period", 12, "int64"),
        ("default_sample_type", 14, "int64"),
    ],
}

Profile: Any = protobuf.messages("harness/profile.proto", "perftools.profiles", _SCHEMA)["Profile"]
