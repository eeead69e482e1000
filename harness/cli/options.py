"""The options of `harness evaluate` as one record, and how a command takes a record of options."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from harness.errors import InputError, StoreError
from harness.wire import run_name

REPORTS = Path("reports")
DEFAULT = "quick"  # experiment

Record = TypeVar("Record")


def run_folder(reports: Path, name: str, slug: str) -> Path:
    """The folder of a new run: `name`, or the time and what it is of.

    InputError for a bad name, StoreError if there is such a folder.
    """
    if name:
        run_name.check(name)  # all of it: `../x` would end in a good one
    path = reports / (name or f"{datetime.now():%Y%m%d-%H%M%S}-{slug}")
    if path.exists():
        raise StoreError(f"{path} exists already.", next_step="Name another run.")
    return path


def taking(record: type[Record]) -> Callable[[Callable[[Record], None]], Callable[..., None]]:
    """Let typer see the fields of a dataclass as the parameters of a command that takes it."""

    def decorate(command: Callable[[Record], None]) -> Callable[..., None]:
        @wraps(command)
        def taken(context: typer.Context | None = None, **values: Any) -> None:
            if context is not None:
                _refuse_empty(context, values)
            command(record(**values))

        hints = get_type_hints(record, include_extras=True)
        taken.__annotations__ = {"context": typer.Context, **hints, "return": None}
        kind = inspect.Parameter.KEYWORD_ONLY
        fields = [
            inspect.Parameter(field.name, kind, default=field.default, annotation=hints[field.name])
            for field in dataclasses.fields(record)  # type: ignore[arg-type]
        ]
        context = inspect.Parameter("context", kind, annotation=typer.Context)
        vars(taken)["__signature__"] = inspect.Signature([context, *fields])
        return taken

    return decorate


def _refuse_empty(context: typer.Context, values: Mapping[str, object]) -> None:
    """`--unit "$NAME"` without that variable would be a command without --unit: another one."""
    for param in context.command.params:
        source = context.get_parameter_source(str(param.name))
        if values.get(str(param.name)) == "" and source is not None and source.name != "DEFAULT":
            raise InputError(
                f"{param.opts[0]} is given nothing.",
                "Where a shell variable stands for it, that is not set.",
                "Give it a value, or leave it out.",
            )


@dataclass(frozen=True)
class Options:
    """What `harness evaluate` was given; None and empty where it was given nothing."""

    name: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPERIMENT",
            help="A file, or the name of one that ships.",
            show_default=DEFAULT,
        ),
    ] = None
    command: Annotated[
        str, typer.Option(help="Measure your own program: the command that starts it.")
    ] = ""
    url: Annotated[
        str,
        typer.Option(
            help="Where your program answers, once it runs. With {port} in it and in --command "
            "each process gets a port of its own: agents within it need two."
        ),
    ] = ""
    pid: Annotated[
        int | None, typer.Option(metavar="N", help="Measure a service that runs: this process.")
    ] = None
    cgroup: Annotated[
        str, typer.Option(metavar="PATH", help="Measure a service that runs: this cgroup.")
    ] = ""
    unit: Annotated[
        str, typer.Option(metavar="NAME", help="Measure a service that runs: this systemd unit.")
    ] = ""
    container: Annotated[
        str, typer.Option(metavar="ID", help="Measure a service that runs: this container.")
    ] = ""
    locustfile: Annotated[
        Path | None, typer.Option(help="How your program is driven; default: GET the URL.")
    ] = None
    arms: Annotated[
        list[str] | None,
        typer.Option(
            "--arm",
            metavar="[NAME=]COLLECTORS",
            help="Compare these collectors (joined with +) instead; repeat for more arms. An arm "
            "named old is what every other arm is compared against.",
        ),
    ] = None
    workload: Annotated[
        list[str] | None,
        typer.Option(
            "--workload",
            metavar="NAME",
            help="Measure this service that ships; repeat for more. In a cluster also one that "
            "runs there: NAMESPACE/DEPLOYMENT.",
        ),
    ] = None
    duration: Annotated[
        str,
        typer.Option(
            metavar="3m", help="Take about so long (90s, 3m, 1h30m): blocks and trials are fitted."
        ),
    ] = ""
    quick: Annotated[
        bool, typer.Option("--quick", help="About a minute a service: a first look.")
    ] = False
    rigorous: Annotated[
        bool,
        typer.Option(
            "--rigorous", help="Up to twelve long blocks, until each cost is known to 0.3 %."
        ),
    ] = False
    blocks: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="So many blocks, each on a fresh process."),
    ] = None
    minutes: Annotated[
        float | None,
        typer.Option(
            help="The time that a pilot divides, as that of quick. Without one: begin no block "
            "after so many minutes. That makes nothing longer; take --duration for that."
        ),
    ] = None
    stack: Annotated[
        str | None,
        typer.Option(
            metavar="sink|full",
            help="What takes the telemetry: a small sink, or the stack of `harness up`, in which "
            "it is then found again.",
            show_default="sink",
        ),
    ] = None
    service_cpus: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Give the service so many CPUs at most; 0: all that load and collectors leave.",
            show_default="0",
        ),
    ] = None
    load_workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Drive the load by so many processes side by side, where one is not enough.",
            show_default="1",
        ),
    ] = None
    target: Annotated[
        str,
        typer.Option(
            metavar="local|ssh:HOST|kind|existing|vm",
            help="Where it is measured: here, on a machine, or on a node of a cluster "
            "(kind,node=NAME; existing,context=NAME,node=NAME; vm,name=NAME).",
        ),
    ] = "local"
    load_target: Annotated[
        str,
        typer.Option(
            metavar="local|ssh:HOST|kind|existing|vm",
            help="Where the load comes from, as with --target.",
            show_default="beside the service",
        ),
    ] = ""
    host: Annotated[
        str,
        typer.Option(metavar="HOST", help="vm: measure on this host itself, not in the cluster."),
    ] = ""
    load_host: Annotated[
        str, typer.Option(metavar="HOST", help="vm: the load comes from this host itself.")
    ] = ""
    inventory: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="vm: where --host and --load-host are found, if `harness up` made no cluster.",
        ),
    ] = ""
    load_url: Annotated[
        str,
        typer.Option(metavar="URL", help="Where it reaches your program, if that is not --url."),
    ] = ""
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a run that was interrupted.")
    ] = None
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway", help="Resume although machine, kernel or version are other ones now."
        ),
    ] = False
    run_name: Annotated[str, typer.Option("--run", help="The name of the run's folder.")] = ""
    reports: Annotated[Path, typer.Option(help="Where runs are kept.")] = REPORTS
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be done.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say too what the table's columns mean.")
    ] = False
