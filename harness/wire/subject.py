"""Somebody else's collector as a node has and starts it; `collectors` reads it, `node` runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["in-process", "process", "option", "daemonset"]
Way = Literal["path", "pypi", "npm", "maven", "archive", "cluster", "none"]
LOCKED: tuple[Way, ...] = ("pypi", "npm")  # those whose versions a lock file pins
ReadyBy = Literal["log", "port", "data"]
Temporality = Literal["cumulative", "delta"]  # of numbers, as OpenTelemetry's metrics call it


@dataclass(frozen=True)
class Source:
    """How a subject is had; `name` is that of the program, of the package, or GROUP:ARTIFACT.

    `path`: a program on PATH, which Debian's `package` installs; its version is asked for by the
    word `asks`, or `tells` is the regular expression by which its log says it. `why` says of one
    that no package registry has how else it comes.
    `pypi`, `npm`: what a `lock` file pins, in a venv or a folder of modules of its own; `sha256` is
    that of the file.
    `maven`: a jar with this `sha256`. `archive`: a release archive at `url`, with one of `hashes`
    (sha256 by architecture), in which its program is `member`; in both `{version}` and `{arch}` are
    replaced. `cluster`: a DaemonSet, NAMESPACE/NAME, that is there.
    `none`: it cannot be had here, and `why`.
    """

    way: Way
    name: str
    version: str = ""
    sha256: str = ""
    lock: str = ""
    package: str = ""
    tells: str = ""
    why: str = ""
    asks: str = "--version"
    url: str = ""
    member: str = ""
    hashes: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_locked(self) -> bool:
        """Whether a lock file pins what it brings."""
        return self.way in LOCKED

    @property
    def is_fetched(self) -> bool:
        """Whether it is got before a run: a package registry is asked, or an archive fetched."""
        return self.is_locked or self.way in ("maven", "archive")


@dataclass(frozen=True)
class Option:
    """A part of what a pod does, which commands in its `container` turn `on` and `off`.

    It is on while what `state` prints matches the regular expression `is_on`, off while it matches
    `is_off`, and is waited for while it is neither. `seen` prints what it counted since the pod
    began.
    """

    container: str
    on: tuple[str, ...]
    off: tuple[str, ...]
    state: tuple[str, ...]
    is_on: str
    is_off: str
    seen: tuple[str, ...]


@dataclass(frozen=True)
class Subject:
    """A collector that speaks no protocol of ours, and is measured as it comes.

    `in-process`: the service is started with this `environment` and with `wrap` before its command,
    in a service of this `language`; what is compiled into it has a command `build`, run in a copy
    of its source, that makes the `program` which is started then. `process`: it has a command and
    an `environment` of its own, is ready once a line of its log matches the regular expression
    `ready` (by `port`: it listens on the port that it was given; by `data`: something came to
    the receiver), and counts what it saw as the last match of `events` tells, or all together: on a
    `page` of its own, in a log by `temporality` delta, and where a match without a group is one
    event. On a page `lost` finds what it says that it lost, which is in the events if it is
    `lost_among` them. `files` are laid into its folder before it starts: text by file name.
    `option`: it is a part of what a cluster's DaemonSet does; `events` is looked for in what the
    `option` prints of what was seen. `daemonset`: it is a DaemonSet, which is moved to the node and
    away. `leaves` are the files, as patterns, that it may leave behind. `reach` says whom it makes
    pay: the `service` alone, or all of the `host`. `profile` is a pattern of the files in its
    folder, in JFR's format, into which one within the service writes its samples.
    """

    kind: Kind
    source: Source
    language: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    wrap: tuple[str, ...] = ()
    ready: str = ""
    events: str = ""
    leaves: tuple[str, ...] = ()
    reach: Literal["service", "host"] = "service"
    files: Mapping[str, str] = field(default_factory=dict)
    page: str = ""
    option: Option | None = None
    build: tuple[str, ...] = ()
    program: str = ""
    ready_by: ReadyBy = "log"
    temporality: Temporality = "cumulative"
    profile: str = ""
    lost: str = ""
    lost_among: bool = False

    @property
    def is_within(self) -> bool:
        """Whether it runs in the service's own processes."""
        return self.kind == "in-process"
