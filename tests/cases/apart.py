"""A host that is this machine with an /etc of its own, in namespaces; for tests of playbooks."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.cases.placed import put

PYTHON = Path(sys.executable).resolve()
_ENTER = """#!/bin/sh
exec unshare --mount --uts sh -c '
set -e
hostname NAME
MOUNTS
exec /bin/sh "$@"' sh "$@"
"""


def host(folder: Path, name: str, over: Mapping[str, str]) -> dict[str, str]:
    """Its variables for Ansible; what is `over` a place of this machine is in its own folder.

    Where one of them is missing nothing is done: it would be done to this machine.
    """
    own = folder / name
    shutil.copytree("/etc", own / "etc", symlinks=True)
    mounts = {"/etc": "etc", **over}
    for part in ("tmp", *mounts.values()):
        (own / part).mkdir(parents=True, exist_ok=True)
    lines = (f"mount --bind {own}/{part} {place}" for place, part in mounts.items())
    put(own, "sh", _ENTER.replace("NAME", name).replace("MOUNTS", "\n".join(lines)))
    return {
        "ansible_connection": "local", "ansible_shell_executable": f"{own}/sh",
        "ansible_remote_tmp": f"{own}/tmp", "ansible_python_interpreter": str(PYTHON),
    }  # fmt: skip
