"""What a controller asks of a node, and what comes back: frozen, JSON-able, without a seed.

Times are in seconds unless a name says otherwise; moments are the node's CLOCK_MONOTONIC in ns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.model import Arrivals, StackKind, WindowRow
from harness.wire.subject import Subject

TrialMethod = Literal["switch", "twin", "install", "bpf_time", "saturate"]
"""How a trial compares: `install` is an experiment's `block`, `bpf_time` a metered trial,
`saturate` a saturated one."""


@dataclass(frozen=True)
class Placement:
    """CPU numbers for each role, and why; `idle` are left alone beside the service."""

    workload: tuple[int, ...]
    load: tuple[int, ...]
    collector: tuple[int, ...]
    orchestrator: tuple[int, ...]
    why: str
    idle: tuple[int, ...] = ()


@dataclass(frozen=True)
class Session:
    """Asked for once: what holds for a whole run. `code` is `wire.code.digest` of the controller,
    `run_dir` where the measurements are kept, if that is on the same machine. A node of the role
    `load` has neither service nor receiver, only a load driver.

    A node that hears nothing for `lease_seconds` undoes everything and ends.
    """

    run: str
    version: str
    code: str
    receiver: StackKind = "sink"
    idle_poll: bool = True
    service_cpus: int = 0
    load_workers: int = 1
    lease_seconds: float = 60.0
    run_dir: str = ""
    role: Literal["measure", "load"] = "measure"


@dataclass(frozen=True)
class Hello:
    """What a node is: its facts, where it puts whom, whether idle CPUs poll, its folder.

    `components` are those of the stack that takes the telemetry, by name, with their version;
    `stays` says that the stack was up before, and will be after the run; `otlp_url` takes OTLP,
    where the node has what does.
    """

    facts: Mapping[str, Any]
    placement: Placement
    idle_poll: bool
    work: str
    otlp_url: str = ""
    components: Mapping[str, str] = field(default_factory=dict)
    stays: bool = False


@dataclass(frozen=True)
class Spawn:
    """A service that the node starts, in a cgroup that it makes.

    `argv`, `cwd` and `environment` may hold {python}, {host} and {port} to listen on, and
    {workloads}, the node's own services; a `url` with {port} in it has one that the node chooses.
    Without a `url` the program prints `{"ready": true, "port": N}`.
    """

    name: str
    argv: tuple[str, ...]
    cwd: str
    environment: Mapping[str, str] = field(default_factory=dict)
    url: str = ""


@dataclass(frozen=True)
class Found:
    """A service that runs already, by one of the five; it is left where it is, and running.

    `workload`, NAMESPACE/NAME in a cluster, is for a target to find: a node is told a container.
    """

    name: str
    url: str
    pid: int = 0
    cgroup: str = ""
    unit: str = ""
    container: str = ""
    workload: str = ""


@dataclass(frozen=True)
class Locustfile:
    """How a service is driven: the text, and where it was, since it may import its neighbours."""

    path: str
    text: str


@dataclass(frozen=True)
class Elsewhere:
    """The load comes from another node, which is called `node` and reaches the service at `url`:
    empty where that is the service's own.
    """

    node: str
    url: str = ""


@dataclass(frozen=True)
class BlockSpec:
    """A service process, warmed up, and what drives it; `name` is that of its logs.

    Without a `rate` the capacity is found, and its `fraction` is taken, `max_rate` at most. A rate
    that puts less than `least_requests` into a window of `window_seconds` is refused. When
    `arrivals` are due is drawn by `driver_seed`, if it is drawn. `login`, user:password as in a
    URL, is for the load driver alone, which is `load_workers` processes. Without `elsewhere` that
    runs here. The processor's counters are read with `count_instructions`, where it has some.
    """

    name: str
    service: Spawn | Found
    locustfile: Locustfile | None
    connections: int
    driver_seed: int
    rate: float | None
    find_capacity: bool
    fraction: float
    max_rate: float
    warmup_seconds: float
    warmup_limit_seconds: float
    capacity_seconds: float
    window_seconds: float
    least_requests: float
    arrivals: Arrivals = "periodic"
    login: str = field(default="", repr=False)
    elsewhere: Elsewhere | None = None
    count_instructions: bool = True
    load_workers: int = 1


@dataclass(frozen=True)
class BlockReady:
    """What a block found: its rate (1/s), how long it warmed up, and the capacity if it was asked.

    `capacity` holds the fields of `node.load_driver.Capacity`.
    """

    rate: float
    warmup_seconds: float
    steady: bool
    capacity: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class CollectorSpec:
    """A collector as it is measured, resolved once by the controller.

    `name` is its own among all that a trial installs. `agent` is what `harness.agent` knows it by;
    an external one has a `command` instead, one that the cluster runs a `daemonset`. `signal` is
    what coverage counts, `telemetry` the kind whose delay is its data latency, `scope` the OTLP
    scope of both. One that is told `by_socket` knows the service by the cgroup of its sockets; one
    that `writes_profiles` gets a folder. Somebody else's is a `subject`.
    """

    name: str
    agent: str
    options: Mapping[str, str]
    command: tuple[str, ...]
    signal: str | None
    telemetry: str | None
    scope: str
    export_seconds: float
    tells_instance: bool
    by_socket: bool = False
    writes_profiles: bool = False
    daemonset: str = ""
    subject: Subject | None = None


@dataclass(frozen=True)
class Needs:
    """The hooks that a collector, called `name`, takes, by the names of `linux.bpf_features`.

    It cannot run without `hooks`, and takes another one for one of `prefers` that is refused. A
    `subject` must be had, too.
    """

    name: str
    hooks: tuple[str, ...]
    prefers: tuple[str, ...] = ()
    subject: Subject | None = None


@dataclass(frozen=True)
class WindowState:
    """`on` is what the comparison calls the window; `collectors` the state of each of the trial.

    `states` are kept with the window as they are: those of a factorial design.
    """

    on: bool
    collectors: tuple[bool, ...]
    states: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Timing:
    """The lengths of a trial's parts; `low_rate` is a share of the rate, 0 for no such part."""

    settle: float
    window: float
    guard: float
    switched: float
    steady: float
    watched: float
    metered: float
    warmup: float
    warmup_limit: float
    idle: float = 0.0
    low_rate: float = 0.0


@dataclass(frozen=True)
class TrialSpec:
    """A trial: `candidates` are what is measured, `references` what they are compared against.

    `windows` have a state for each collector, candidates first. `swapped` turns round what is
    turned round in every other block: which of two twins is in scope, which parts have the
    collectors, which of two sets stays on first. `cycle` windows have one number.

    The candidates of a `shared` trial are of several arms: each is told apart, and one that cannot
    be installed is left out, not the others with it.
    """

    name: str
    service: str
    method: TrialMethod
    candidates: tuple[CollectorSpec, ...]
    references: tuple[CollectorSpec, ...]
    windows: tuple[WindowState, ...]
    swapped: bool
    timing: Timing
    cycle: int = 4
    shared: bool = False


@dataclass(frozen=True)
class Value:
    """One value of a whole trial, without what the controller knows: whose trial it is."""

    metric: str
    value: float
    unit: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended. `details` are what is no value: hooks, histograms, warnings, ...

    `error` is what `HarnessError.to_dict` tells, `over` what ended with the trial, `service` why
    the service can no longer be measured.
    """

    status: Literal["ok", "failed", "skipped"]
    windows: tuple[WindowRow, ...] = ()
    values: tuple[Value, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, str] | None = None
    over: Literal["", "block", "run"] = ""
    service: str = ""
