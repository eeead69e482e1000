"""One typed description of the stack, and the files and commands that follow; for `local_stack`.

The files are JSON, which every reader of YAML reads: nothing has to be quoted by hand.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from harness.stack.config import (
    grafana,
    jaeger,
    loki,
    otelcol,
    parca,
    prometheus,
    tempo,
    victorialogs,
)
from harness.stack.config.description import Program, Stack, Store, Tree
from harness.stack.config.grafana import PASSWORD as GRAFANA_PASSWORD
from harness.stack.config.otelcol import QUEUE, host

__all__ = [
    "GRAFANA_PASSWORD", "PROGRAMS", "QUEUE", "Program", "Stack", "Store", "Tree", "host", "write",
]  # fmt: skip

PROGRAMS: dict[str, Program] = {
    "prometheus": prometheus.PROGRAM,
    "tempo": tempo.PROGRAM,
    "jaeger": jaeger.PROGRAM,
    "loki": loki.PROGRAM,
    "victorialogs": victorialogs.PROGRAM,
    "parca": parca.PROGRAM,
    "grafana": grafana.PROGRAM,
}
"""The components that can be started, the receiving end before the Collector that sends to it."""
PROGRAMS["otelcol"] = otelcol.program(PROGRAMS)


def write(stack: Stack, component: str) -> list[str]:
    """Write the component's files and make its data folder; the arguments of its program."""
    program = PROGRAMS[component]
    Path(stack.data(component)).mkdir(parents=True, exist_ok=True)
    if program.render is not None:
        _write(stack.file(component), program.render(stack))
    for name, tree in program.files(stack).items():
        _write(stack.folder / name, tree)
    for name in program.secrets:
        _generate(stack.folder / name)
    return program.arguments(stack)


def _write(path: Path, tree: Tree) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree, indent=2) + "\n")


def _generate(path: Path) -> None:
    """A new password, in a file that only its owner reads; one that is there stays."""
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe(24) + "\n")
