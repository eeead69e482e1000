"""Which pods are meant: namespaces and a label selector, as Kubernetes reads them.

A person's are checked before anything is made, and again by the agents that go by them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(rf"(?:[a-z0-9](?:[-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_NAME}")
_VALUE = re.compile(rf"(?:{_NAME})?")
_BOUNDARY = re.compile(r",(?![^(]*\))")  # a comma that is not within parentheses
_SET = re.compile(r"(\S+)\s+(in|notin)\s*\(([^()]*)\)")
_EQUAL = re.compile(r"([^\s=!]+)\s*(==?|!=)\s*(\S*)")
_OPERATORS = {"in": "In", "notin": "NotIn", "=": "In", "==": "In", "!=": "NotIn"}
_WITH_VALUES, _WITHOUT = ("In", "NotIn"), ("Exists", "DoesNotExist")
_EXAMPLES = (
    "Write for instance app=shop,tier!=test or 'app in (shop,web),!canary', or Kubernetes' JSON: "
    '{"matchLabels": {"app": "shop"}}.'
)


class SelectorError(ValueError):
    """What is no selector, why, and what to do next, each a plain sentence."""

    def __init__(self, what: str, why: str, next_step: str = _EXAMPLES) -> None:
        self.what, self.why, self.next_step = what, why, next_step
        super().__init__(f"{what} {why} {next_step}")


@dataclass(frozen=True)
class Requirement:
    """What a label has to be; `operator` is one of Kubernetes'."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet it; a label that is not there is not in any set."""
        if self.operator in _WITHOUT:
            return (self.key in labels) == (self.operator == "Exists")
        return (labels.get(self.key) in self.values) == (self.operator == "In")


Selector = tuple[Requirement, ...]


@dataclass(frozen=True)
class Selection:
    """Pods of some namespaces (none named: of all) but others, whose labels match.

    `always` are selected whatever else is said: pairs of a namespace and a selector.
    """

    namespaces: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    pods: Selector = ()
    always: tuple[tuple[str, Selector], ...] = ()

    def takes(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether a pod is selected."""
        for where, pods in self.always:
            if where == namespace and matches(pods, labels):
                return True
        if namespace in self.excluded or (self.namespaces and namespace not in self.namespaces):
            return False
        return matches(self.pods, labels)


def selection(
    namespaces: str = "", excluded: str = "", pods: str = "", always: Sequence[str] = ()
) -> Selection | None:
    """From what was written, lists separated by commas; None if nothing selects.

    Each of `always` is NAMESPACE:SELECTOR. SelectorError if one of them is none.
    """
    included, without = (frozenset(_namespaces(each)) for each in (namespaces, excluded))
    if both := sorted(included & without):
        raise SelectorError(
            f"The namespace {both[0]} is both included and excluded.",
            "No pod of it would be seen.",
            "Leave it out of one of both lists.",
        )
    wanted = selector(pods)
    if not (included or without or wanted):
        return None
    parts = (each.partition(":") for each in always)
    return Selection(included, without, wanted, tuple((p[0], selector(p[2])) for p in parts))


def selector(text: str) -> Selector:
    """A label selector, as a string or as JSON; without a requirement it matches all."""
    text = text.strip()
    if text.startswith("{"):
        return tuple(_of_json(text))
    return tuple(_requirement(part.strip(), text) for part in _BOUNDARY.split(text) if text)


def matches(pods: Selector, labels: Mapping[str, str]) -> bool:
    """Whether labels meet every requirement."""
    return all(each.matches(labels) for each in pods)


def _namespaces(text: str) -> Iterator[str]:
    for name in filter(None, (each.strip() for each in text.split(","))):
        if not _NAMESPACE.fullmatch(name):
            raise SelectorError(
                f"{name!r} is no name of a namespace.",
                "It has lower-case letters, digits and -, 63 at most, and patterns are not known.",
                "Name namespaces, separated by commas: shop,web.",
            )
        yield name


def _requirement(part: str, text: str) -> Requirement:
    found = _SET.fullmatch(part)
    if found:
        values = frozenset(each.strip() for each in found[3].split(","))
        return _checked(Requirement(found[1], _OPERATORS[found[2]], values), text)
    found = _EQUAL.fullmatch(part)
    if found:
        return _checked(Requirement(found[1], _OPERATORS[found[2]], frozenset({found[3]})), text)
    absent = part.startswith("!")
    operator = "DoesNotExist" if absent else "Exists"
    return _checked(Requirement(part[absent:].strip(), operator), text)


def _of_json(text: str) -> Iterator[Requirement]:
    try:
        found = json.loads(text)
        rest = dict(found)
        labels, expressions = rest.pop("matchLabels", {}), rest.pop("matchExpressions", [])
        if rest:
            raise _wrong(text, f"It has matchLabels and matchExpressions, and not {min(rest)}.")
        for key, value in (labels or {}).items():
            yield _checked(Requirement(key, "In", frozenset({value})), text)
        for each in expressions or []:
            yield _checked(_expression(each, text), text)
    except (TypeError, AttributeError, KeyError, json.JSONDecodeError) as error:
        raise _wrong(text, f"It cannot be read: {error}.") from error


def _expression(found: Mapping[str, Any], text: str) -> Requirement:
    operator, listed = found["operator"], found.get("values")
    if listed is not None and not isinstance(listed, list):
        raise _wrong(text, f"The values of {operator} are no list.")
    values = frozenset(listed or ())
    if operator not in (*_WITH_VALUES, *_WITHOUT):
        raise _wrong(text, f"The operator {operator} is none of In, NotIn, Exists, DoesNotExist.")
    if bool(values) != (operator in _WITH_VALUES):
        raise _wrong(text, f"{operator} {'takes no' if values else 'needs'} values.")
    return Requirement(found["key"], operator, values)


def _checked(one: Requirement, text: str) -> Requirement:
    if not _KEY.fullmatch(one.key):
        raise _wrong(text, f"{one.key!r} is no key of a label.")
    for value in one.values:
        if not _VALUE.fullmatch(value):
            raise _wrong(text, f"{value!r} is no value of a label.")
    return one


def _wrong(text: str, why: str) -> SelectorError:
    return SelectorError(f"{text!r} is no label selector.", why)
