"""What became of each request: compact columns that the load driver fills and writes at the end."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.wire.driving import Course
from harness.wire.files import whole


@dataclass(frozen=True)
class Requests:
    """Requests as columns of equal length; times are CLOCK_MONOTONIC ns.

    `status` is the HTTP status, 0 without an answer; `failed` is what Locust counts as a failure;
    `route` indexes `route_names`; `size` is the length of the answer's body; `twin` tells the
    requests to the second service from those to the first.
    """

    due_ns: npt.NDArray[np.int64]
    start_ns: npt.NDArray[np.int64]
    end_ns: npt.NDArray[np.int64]
    status: npt.NDArray[np.int16]
    failed: npt.NDArray[np.bool_]
    route: npt.NDArray[np.uint8]
    size: npt.NDArray[np.int32]
    twin: npt.NDArray[np.bool_]
    route_names: tuple[str, ...]

    @property
    def latency_ns(self) -> npt.NDArray[np.int64]:
        """From the moment a request was due to the end of its answer."""
        return self.end_ns - self.due_ns


class Record:
    """Requests while they happen; other routes than the first 255 share the last name."""

    def __init__(self) -> None:
        self.due_ns, self.start_ns, self.end_ns = array("q"), array("q"), array("q")
        self.status, self.failed = array("h"), array("b")
        self.route, self.size, self.twin = array("B"), array("i"), array("b")
        self.errors = 0
        self._routes: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.end_ns)

    def add(
        self,
        due_ns: int,
        start_ns: int,
        end_ns: int,
        status: int,
        failed: bool,
        name: str,
        size: int,
        twin: bool = False,
    ) -> None:
        """Append one request."""
        route = self._routes.get(name)
        if route is None:
            route = self._add_route(name)
        self.due_ns.append(due_ns)
        self.start_ns.append(start_ns)
        self.end_ns.append(end_ns)
        self.status.append(status)
        self.failed.append(failed)
        self.route.append(route)
        self.size.append(min(size, 2**31 - 1))
        self.twin.append(twin)
        self.errors += failed

    def write(self, path: Path) -> None:
        """Write all columns to `path`, which appears only when it is complete."""
        with whole(path) as file:
            np.savez(
                file,
                due_ns=np.asarray(self.due_ns, np.int64),
                start_ns=np.asarray(self.start_ns, np.int64),
                end_ns=np.asarray(self.end_ns, np.int64),
                status=np.asarray(self.status, np.int16),
                failed=np.asarray(self.failed, np.int8).astype(np.bool_),
                route=np.asarray(self.route, np.uint8),
                bytes=np.asarray(self.size, np.int32),
                twin=np.asarray(self.twin, np.int8).astype(np.bool_),
                route_names=np.array(self._route_names(), dtype=np.str_),
            )

    def _add_route(self, name: str) -> int:
        self._routes[name] = min(len(self._routes), 255)
        return self._routes[name]

    def _route_names(self) -> list[str]:
        names = list(self._routes)
        return names if len(names) <= 256 else [*names[:255], "(other)"]


def read(path: Path) -> Requests:
    """Read what `Record.write` wrote; OSError or ValueError if it is not such a file."""
    with np.load(path, allow_pickle=False) as columns:
        none = np.zeros(len(columns["end_ns"]), np.bool_)  # as in files of earlier versions
        return Requests(
            due_ns=columns["due_ns"],
            start_ns=columns["start_ns"],
            end_ns=columns["end_ns"],
            status=columns["status"],
            failed=columns["failed"],
            route=columns["route"],
            size=columns["bytes"],
            twin=columns.get("twin", none),
            route_names=tuple(str(name) for name in columns["route_names"]),
        )


TIMES = ("due_ns", "start_ns", "end_ns")


def shift(path: Path, course: Course) -> None:
    """Tell a file's requests, made by a clock that goes by `course`, by the clock it is held to."""
    with np.load(path, allow_pickle=False) as found:
        columns = dict(found)
    for name in TIMES:
        at = columns[name].astype(np.int64)
        more = np.rint((at - course.at_ns) * (course.parted_ns / course.lasts_ns)).astype(np.int64)
        columns[name] = at - course.ahead_ns - more
    with whole(path) as file:
        np.savez(file, **columns)
