"""A real toolchain from the module proxy, got by a Go that says it is that of Debian 12."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness.linux import processes
from harness.stack import catalog, toolchain

pytestmark = [pytest.mark.e2e, pytest.mark.stack]

OLD = """#!/bin/sh
if [ "$1" = env ]; then
    {go} "$@" | sed 's/"go1[0-9.]*"/"go1.19.8"/'
else
    exec {go} "$@"
fi
"""


def test_a_fetched_toolchain_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = shutil.which("go")
    if installed is None or not os.environ.get("HARNESS_STACK"):
        pytest.skip("70 MB are to be fetched by Go: `make test-stack` does")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "go").write_text(OLD.replace("{go}", installed))
    (tmp_path / "bin" / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("GOTOOLCHAIN", "auto")
    go = toolchain.choose(catalog.MODULES / "victorialogs" / "go.mod")
    assert "from the module proxy" in toolchain.to_fetch(go, tmp_path)
    environment = toolchain.environment(go, tmp_path)  # who sets HARNESS_STACK has a network
    assert toolchain.to_fetch(go, tmp_path) == ""
    assert f"go{go.version} " in processes.run(["go", "version"], env=environment).stdout
    (tmp_path / "main.go").write_text('package main\n\nfunc main() { println("built") }\n')
    build = ["nice", "-n", "19", "go", "build", "-o", "program", "main.go"]
    processes.run(build, cwd=tmp_path, env=environment, timeout=600)
    assert processes.run([str(tmp_path / "program")]).stderr == "built\n"
