"""Messages of protocols whose generated code no package brings, made of tables; for `wire`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Fields = Sequence[tuple[str, int, str]]


def messages(file: str, package: str, schema: Mapping[str, Fields]) -> dict[str, Any]:
    """The types of `package` by their names; `file` tells them from all others.

    A field is its name, its number, its type: a `*` repeats it, a message of the same schema is
    named by its name.
    """
    described = descriptor_pb2.FileDescriptorProto(name=file, package=package, syntax="proto3")
    for name, fields in schema.items():
        message = described.message_type.add(name=name)
        for field, number, kind in fields:
            _describe(message.field.add(name=field, number=number), kind, package, schema)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(described)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in schema
    }


def _describe(field: Any, kind: str, package: str, schema: Mapping[str, Fields]) -> None:
    types = descriptor_pb2.FieldDescriptorProto
    plain = kind.rstrip("*")
    field.label = types.LABEL_REPEATED if kind != plain else types.LABEL_OPTIONAL
    if plain in schema:
        field.type = types.TYPE_MESSAGE
        field.type_name = f".{package}.{plain}"
    else:
        field.type = getattr(types, f"TYPE_{plain.upper()}")
