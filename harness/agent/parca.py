"""Profiles for Parca: pprof, by its own call; other signals go to the receiver. Used by runtime.

Parca 0.21 takes no OTLP. Of a profile in which no frame has a name it shows nothing: what has none
is called by its file and the place in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from harness.agent.container import Container
from harness.agent.origin import Origin
from harness.agent.otlp import Exporter
from harness.agent.posts import Posts
from harness.agent.pprof import Builder, Frame
from harness.agent.telemetry import ProfileBatch
from harness.wire import grpc_web, parca

_EXECUTABLE = "process.executable.name"
_NO_STACK = Frame(name="[no stack]")


class Profiles:
    """CPU samples of one drain, a pprof profile of each container; a ProfileBatch."""

    def __init__(self, began_ns: int, duration_ns: int, period_ns: int) -> None:
        self._spent = began_ns, duration_ns, period_ns
        self._builders: dict[Container | None, Builder] = {}

    def __len__(self) -> int:
        """How many profiles: as many as containers."""
        return len(self._builders)

    def add(
        self,
        container: Container | None,
        frames: Sequence[Frame],
        count: int,
        attributes: Mapping[str, str | int],
    ) -> None:
        """Count one stack, leaf first."""
        if container not in self._builders:
            self._builders[container] = Builder(*self._spent)
        pid, tid = (int(attributes.get(name, 0)) for name in ("process.pid", "thread.id"))
        executable = str(attributes.get(_EXECUTABLE, ""))
        labels = ((parca.label(_EXECUTABLE), executable),) if executable else ()
        named = [*map(_named, frames)] or [_NO_STACK]
        self._builders[container].add(named, count, pid, tid, labels)

    def encoded(self, origin: Origin) -> bytes:
        """A WriteRawRequest: what OTLP says of the resource are labels."""
        request = parca.WriteRawRequest()
        for container, builder in self._builders.items():
            about = _attributes(origin.resource(container))
            parca.add(request, about, builder.profile.SerializeToString())
        return bytes(request.SerializeToString())


class ToParca(Exporter):
    """An Exporter whose profiles go to Parca."""

    def __init__(self, url: str, parca_url: str) -> None:
        super().__init__(url)
        self._parca = Posts("--parca", parca_url, "Parca", grpc_web.HEADERS)

    def receiver(self, signal: str) -> str:
        """Where this signal goes."""
        return self._parca.url if signal == "profiles" else super().receiver(signal)

    def send_profiles(self, batch: Iterable[tuple[Origin, Sequence[ProfileBatch]]]) -> int:
        """Call for the profiles of each drain; it takes all of them, or none."""
        for origin, drains in batch:
            for each in drains:
                self._write(self._encoded("profiles", each.encoded, origin))
        return 0

    def close(self) -> None:
        """Hang up."""
        super().close()
        self._parca.close()

    def _write(self, message: bytes) -> None:
        answer = self._parca.post(parca.WRITE, "profiles", grpc_web.framed(message))
        try:
            grpc_web.answered(answer.headers, answer.said)
        except grpc_web.CallError as error:
            why = f"It answered with {error}."
            if error.status in grpc_web.FINAL:
                raise self._parca.refused("profiles", why) from error
            raise self._parca.later("profiles", why) from error
        except ValueError as error:  # a page, of something else or of a server that knows no calls
            raise self._parca.refused("profiles", f"What answered is no Parca: {error}.") from error


def _named(frame: Frame) -> Frame:
    if frame.name:
        return frame
    if frame.mapping is None:
        return frame._replace(name=f"[unknown]+{frame.address:#x}")
    place = frame.address - frame.mapping.start + frame.mapping.offset
    return frame._replace(name=f"{frame.mapping.path.rpartition('/')[2]}+{place:#x}")


def _attributes(resource: Resource) -> dict[str, str | int]:
    return {each.key: _value(each.value) for each in resource.attributes}


def _value(value: AnyValue) -> str | int:
    return value.string_value if value.HasField("string_value") else value.int_value
