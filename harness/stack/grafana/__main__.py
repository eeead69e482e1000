"""`python -m harness.stack.grafana FOLDER`: the dashboards and alert rules, for another Grafana."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from harness.stack import grafana, rules


def write(folder: Path) -> None:
    """A file for each dashboard, and rules.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    trees = {f"{uid}.json": tree for uid, tree in grafana.dashboards().items()}
    for name, tree in {**trees, "rules.yaml": rules.rules()}.items():
        (folder / name).write_text(json.dumps(tree, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    write(Path(sys.argv[1]))
