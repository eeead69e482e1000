"""What `harness evaluate --resume` refuses to be given besides."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app, asked


@pytest.mark.parametrize(
    "option",
    [("quick",), ("--command", "x"), ("--url", "x"), ("--arm", "a=http"), ("--workload", "go"),
     ("--run", "name"), ("--minutes", "0"), ("--pid", "1"), ("--cgroup", "x"), ("--unit", "x"),
     ("--container", "x"), ("--service-cpus", "0"), ("--target", "ssh:x"), ("--stack", "sink"),
     ("--locustfile", "x")],
)  # fmt: skip
def test_a_resumed_run_takes_no_other_plan(
    option: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked.Run, "open", lambda _: pytest.fail("it went on"))
    done = CliRunner().invoke(app, ["evaluate", *option, "--resume", str(tmp_path)])
    assert done.exit_code == 2, done.output
    assert "goes on as it was asked for" in done.output
