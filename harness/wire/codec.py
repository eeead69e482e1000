"""Frozen dataclasses to JSON's types and back, checked; for whoever sends or reads a spec."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class MalformedError(ValueError):
    """What came is not what the type says."""


def dump(value: Any) -> Any:
    """A dataclass, or what it holds, in JSON's types; a member of a union tells its class."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {f.name: dump(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"is": type(value).__name__, **found}
    if isinstance(value, Mapping):
        return {str(key): dump(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [dump(each) for each in value]
    return value


def load(kind: type[T], data: Any) -> T:
    """The inverse of `dump` for a dataclass; MalformedError where data are of other types."""
    found = _load(kind, data, kind.__name__)
    assert isinstance(found, kind)
    return found


def _load(kind: Any, data: Any, at: str) -> Any:
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind, data, at)
    if origin in (Union, types.UnionType):
        return _member(get_args(kind), data, at)
    if origin is Literal:
        return _expect(data in get_args(kind), data, at)
    if origin is tuple:
        return _tuple(get_args(kind), data, at)
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(data, Mapping), data, at)
        return {key: _load(get_args(kind)[1], each, f"{at}.{key}") for key, each in data.items()}
    if kind is Any:
        return data
    return _scalar(kind, data, at)


def _dataclass(kind: type, data: Any, at: str) -> Any:
    _expect(isinstance(data, Mapping) and data.get("is", kind.__name__) == kind.__name__, data, at)
    hints = _hints(kind)
    given = {key: value for key, value in data.items() if key != "is"}
    if unknown := sorted(set(given) - set(hints)):
        raise MalformedError(f"{at} has unknown fields: {', '.join(unknown)}")
    try:
        return kind(**{k: _load(hints[k], v, f"{at}.{k}") for k, v in given.items()})
    except TypeError as error:  # a field is missing
        raise MalformedError(f"{at}: {error}") from error


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _member(kinds: tuple[Any, ...], data: Any, at: str) -> Any:
    """Of dataclasses the one that is named, of others the first that fits."""
    if data is None and type(None) in kinds:
        return None
    told = data.get("is") if isinstance(data, Mapping) else None
    for kind in kinds:
        if told is None or getattr(kind, "__name__", "") == told:
            try:
                return _load(kind, data, at)
            except MalformedError:
                if told is not None:
                    raise
    raise MalformedError(f"{at} is none of its kinds: {str(data)[:80]!r}")


def _tuple(kinds: tuple[Any, ...], data: Any, at: str) -> tuple[Any, ...]:
    _expect(isinstance(data, list | tuple), data, at)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_load(kinds[0], each, f"{at}[{i}]") for i, each in enumerate(data))
    _expect(len(data) == len(kinds), data, at)
    return tuple(_load(k, each, at) for k, each in zip(kinds, data, strict=True))


def _scalar(kind: Any, data: Any, at: str) -> Any:
    if kind is type(None):
        return _expect(data is None, data, at)
    if kind is float:  # JSON knows no difference
        _expect(isinstance(data, int | float) and not isinstance(data, bool), data, at)
        return float(data)
    if kind is int:
        return _expect(isinstance(data, int) and not isinstance(data, bool), data, at)
    return _expect(isinstance(data, kind), data, at)


def _expect(fits: bool, data: Any, at: str) -> Any:
    if not fits:
        raise MalformedError(f"{at} cannot be {str(data)[:80]!r}")
    return data
