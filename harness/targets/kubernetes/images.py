"""The images of a roll-out: ours are built here, those of others come from their projects.

What the local docker has goes into kind's nodes as it is; the nodes pull the rest. What they are
called in a registry of one's own says `registry`.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from harness.errors import CommandError, NeedError
from harness.linux import processes
from harness.targets import packages
from harness.targets.bundle import ROOT, Bundle, bundle
from harness.targets.packages import Python

FOLDER = ROOT / "manifests" / "images" / "node"
REPOSITORY = "localhost/harness-node"
BASE_VARIABLE = "HARNESS_IMAGE_BASE"
"""Names another Debian 12 to build on, such as one in a registry of one's own."""
_PYTHON, _GLIBC = "3.11.2", 36  # Debian 12's
_BUILD_SECONDS, _SAVE_SECONDS = 1800.0, 600.0

Tell = Callable[[str], None]


class Nodes(Protocol):
    """Nodes that we may put images into: those that kind made, and machines reached by ssh."""

    def load(self, wanted: list[str], tell: Tell) -> list[str]:
        """Put into them what the local docker has of these images; those that it had."""
        ...

    def nodes_without(self, wanted: Sequence[str]) -> list[str]:
        """Those that lack one of these images."""
        ...

    def taking(self, node: str) -> list[str]:
        """The command that takes an archive of images into a node, from its stdin."""
        ...


def content() -> Bundle:
    """What is packed into the image."""
    return bundle(Python(_PYTHON, platform.machine(), _GLIBC))


def name() -> str:
    """The image of this code; another one for other code."""
    return f"{REPOSITORY}:{content().key}"


def present(image: str, environment: Mapping[str, str] | None = None) -> bool:
    """Whether the local docker has it."""
    return bool(identity(image, environment))


def identity(image: str, environment: Mapping[str, str] | None = None) -> str:
    """The local docker's id of it; empty if it has none of this name."""
    argv = ["docker", "image", "inspect", "--format", "{{.Id}}", image]
    done = processes.run(argv, check=False, env=environment)
    return "" if done.returncode else done.stdout.strip()


def build(tell: Tell, *, environment: Mapping[str, str] | None = None, base: str = "") -> str:
    """Build the image of this code unless the local docker has it; its name."""
    made, base = name(), base or os.environ.get(BASE_VARIABLE, "")
    if present(made, environment):
        return made
    tell(f"building {made}")
    with tempfile.TemporaryDirectory(prefix="harness-image-") as folder:
        context = Path(folder)
        for file in FOLDER.iterdir():
            shutil.copy(file, context / file.name)
        with (context / "node.tar.gz").open("wb") as packed:
            content().write(packed, tell, packages.cache())
        argv = ["docker", "build", "--network", "host", "--tag", made]
        argv += ["--build-arg", f"BASE={base}"] if base else []
        try:
            processes.run(
                [*argv, "--file", f"{folder}/Containerfile", folder],
                env=environment, timeout=_BUILD_SECONDS,
            )  # fmt: skip
        except CommandError as error:
            raise NeedError(
                f"The image {made} cannot be built.",
                error.why,
                f"See that docker reaches its registry and Debian's mirror, or name another base "
                f"in {BASE_VARIABLE}.",
            ) from error
    return made
