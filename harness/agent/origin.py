"""What telemetry is of, resources and scopes; used by encoding, hosted and profile_samples."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import unquote

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from harness.agent.container import Container

_MOST_CONTAINERS = 4096  # whose resources are kept
Attributes = Mapping[str, str | int]


class Origin:
    """A collector that watches one service, by the names that telemetry carries.

    `own` is the resource of what the agent says of itself.
    """

    def __init__(
        self, collector: str, service: str, find_pid: Callable[[], int | None], instance: str = ""
    ) -> None:
        self.scope = InstrumentationScope(name=f"harness.{collector}")
        self.own_scope = InstrumentationScope(name="harness.agent")
        pid = os.getpid()
        named = {"service.name": "harness-agent", "service.instance.id": instance or str(pid)}
        self.own = _message(resource({**named, "process.pid": pid}))
        self._find_pid = find_pid
        self._attributes = resource({"service.name": service})
        if instance:
            self._attributes["service.instance.id"] = instance
        self._service = _message(self._attributes)

    def resource(self, container: Container | None) -> Resource:
        """That of the service, or of a container.

        It has process.pid as soon as there is a process; the agent may be there before it.
        """
        if container is not None:
            return _of_container(container)
        if "process.pid" not in self._attributes and (pid := self._find_pid()) is not None:
            self._attributes["process.pid"] = pid
            self._service = _message(self._attributes)
        return self._service


def resource(own: Attributes) -> dict[str, str | int]:
    """What telemetry is of: the host, what OTEL_RESOURCE_ATTRIBUTES says, and what is `own`."""
    return {"host.name": socket.gethostname(), **dict(listed("OTEL_RESOURCE_ATTRIBUTES")), **own}


def of_container(container: Container) -> dict[str, str | int]:
    """What telemetry of a container is of: its ids, and where it runs.

    The container is the instance of its service. Which service that is says who knows its pod.
    """
    own = {"container.id": container.id, "k8s.pod.uid": container.pod}
    own["service.instance.id"] = container.id or container.pod
    return resource({name: value for name, value in own.items() if value})


def listed(variable: str) -> Iterator[tuple[str, str]]:
    """The pairs in a variable of the environment: NAME=VALUE,NAME=VALUE, values percent-encoded."""
    for each in os.environ.get(variable, "").split(","):
        name, found, value = each.partition("=")
        if found:
            yield name.strip(), unquote(value.strip())


@functools.lru_cache(_MOST_CONTAINERS)
def _of_container(container: Container) -> Resource:
    return _message(of_container(container))


def _message(attributes: Attributes) -> Resource:
    return Resource(attributes=[_pair(*each) for each in attributes.items()])


def _pair(key: str, value: str | int) -> KeyValue:
    if isinstance(value, str):
        return KeyValue(key=key, value=AnyValue(string_value=value))
    return KeyValue(key=key, value=AnyValue(int_value=value))
