"""Backends of one's own: the options, and what is said of them; for `rollout` and `cluster`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from rich.markup import escape

from harness.cli.screen import out
from harness.errors import InputError
from harness.stack import catalog
from harness.targets.kubernetes.external import External

COLLECTOR = "otelcol"

Otlp = Annotated[
    str,
    typer.Option(
        "--otlp",
        metavar="URL",
        help="In a cluster: agents send to this OTLP/HTTP receiver of yours, as pods reach it; no "
        "backend is installed.",
    ),
]
OtlpSecret = Annotated[
    str,
    typer.Option(
        "--otlp-secret",
        metavar="NAME",
        help="With --otlp: a Secret of the namespace: `headers` go with every post, `ca.crt` is "
        "who issued the receiver's certificate.",
    ),
]
QueryTraces = Annotated[
    str,
    typer.Option(
        "--query-traces",
        metavar="KIND=URL",
        help="With --otlp: who keeps the traces, as this machine reaches it; the proof asks it.",
    ),
]
QueryMetrics = Annotated[
    str, typer.Option("--query-metrics", metavar="KIND=URL", help="The same of metrics.")
]
QueryLogs = Annotated[
    str, typer.Option("--query-logs", metavar="KIND=URL", help="The same of log lines.")
]


def given(asked: External) -> dict[str, str]:
    """What was said, by the names of the options that say it."""
    queries = {f"query-{signal}": said for signal, said in asked.queries.items()}
    return {"otlp": asked.otlp, "otlp-secret": asked.secret, **queries}


def check(otlp: str, require: Sequence[str]) -> None:
    """InputError if a backend is required, which with a receiver of one's own is not there."""
    known = catalog.known()
    backends = [name for name in require if name == COLLECTOR or known[name].signal]
    if otlp and backends:
        raise InputError(
            f"--require {' --require '.join(backends)} does not go with --otlp.",
            "It is of the backends that would be installed, and yours are taken instead.",
            "Leave it out.",
        )


def plan(kept: Mapping[str, str]) -> None:
    """Say where agents would send, and who would be asked; nothing if to the stack's own."""
    if kept:
        signals = ("traces", "metrics", "logs")
        told = [f"{kept[each]} for {each}" for each in signals if each in kept]
        asks = f"asks {', '.join(told)}, too" if told else "asks the agents alone"
        said = f"Agents would send to {kept['otlp']}. The proof {asks}."
        out.print(escape(said), soft_wrap=True)


def show(acknowledged: int) -> None:
    """Say how many spans a receiver of one's own took; nothing if there is none."""
    if acknowledged:
        out.print(f"The receiver took {acknowledged} spans of the service's node meanwhile.")
