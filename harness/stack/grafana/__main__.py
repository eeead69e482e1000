"""`python -m harness.stack.grafana FOLDER [tempo loki ...]`: dashboards and alert rules to import.

They are for another Grafana. The components named keep traces and logs there; else it is those that
`harness up` takes where nothing else is to be had.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.stack import catalog, grafana, rules
from harness.stack.config.description import KEEPS


def write(folder: Path, keepers: Sequence[str] = ()) -> None:
    """A file for each dashboard, and rules.yaml."""
    keeps = {**KEEPS, **{catalog.known()[name].signal: name for name in keepers}}
    folder.mkdir(parents=True, exist_ok=True)
    trees = {f"{uid}.json": tree for uid, tree in grafana.dashboards(keeps).items()}
    for name, tree in {**trees, "rules.yaml": rules.rules()}.items():
        (folder / name).write_text(json.dumps(tree, indent=2) + "\n")


if __name__ == "__main__":
    known = [name for name, one in catalog.known().items() if one.signal]
    if len(sys.argv) < 2 or set(sys.argv[2:]) - set(known):
        raise SystemExit(f"{__doc__}\nComponents that keep a signal: {', '.join(known)}")
    write(Path(sys.argv[1]), sys.argv[2:])
