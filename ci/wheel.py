"""`pip wheel .` takes along what `make bpf` builds; pyproject.toml names it to setuptools.

Those of each architecture, since nothing else in the wheel is of one: `harness.wire.objects`
finds them by `uname -m`. They are compiled where the sources are newer or others.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from setuptools.command.build_py import build_py

BPF = Path(__file__).resolve().parents[1] / "bpf"
OBJECTS = Path("harness", "agent", "objects")


class BuildPy(build_py):  # type: ignore[misc]  # setuptools has no types
    """setuptools' own, and `make every` in bpf/."""

    def run(self) -> None:
        """Build; an editable installation uses what `make bpf` has built."""
        super().run()
        if self.editable_mode:
            return
        subprocess.run(["make", "-s", "-C", str(BPF), "every"], check=True)
        into = Path(self.build_lib) / OBJECTS
        shutil.rmtree(into, ignore_errors=True)  # of a build before this one
        for path in _objects():
            (into / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, into / path.parent.name)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """What it puts into the wheel."""
        into = Path(self.build_lib) / OBJECTS
        ours = (
            [] if self.editable_mode else [str(into / p.parent.name / p.name) for p in _objects()]
        )
        return [*super().get_outputs(include_bytecode), *ours]


def _objects() -> list[Path]:
    """And the sums of what each was made of."""
    return sorted(
        path
        for end in (".bpf.o", ".so")
        for sums in ("", ".sha256")
        for path in BPF.glob(f".output/*/*{end}{sums}")
    )
