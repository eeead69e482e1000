"""`harness collector check`: the example that ships passes, and what is wrong is told at once."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.linux import processes

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "experiments/collectors"


# in a /run of its own, so that it is not refused beside a run that other tests measure
APART = ["unshare", "-m", "sh", "-c", 'mount --bind "$1" /run && shift && exec "$@"', "sh"]


@pytest.fixture(name="run_folder")
def _run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def _check(file: Path, run_folder: Path) -> tuple[int, dict[str, Any]]:
    apart = [*APART, str(run_folder)] if os.geteuid() == 0 else []
    done = processes.run(
        [*apart, sys.executable, "-m", "harness", "collector", "check", str(file), "--json"],
        check=False, timeout=300,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, {each["name"]: each for each in json.loads(done.stdout)}


def _copy(folder: Path, **changes: str) -> Path:
    """The example, as one copies it, with words of its program replaced."""
    program = (EXAMPLE / "clock.py").read_text()
    for old, new in changes.items():
        assert old in program
        program = program.replace(old, new)
    (folder / "clock.py").write_text(program)
    file = folder / "clock.toml"
    file.write_text((EXAMPLE / "clock.toml").read_text())
    return file


def test_the_example_passes_and_leaves_nothing(run_folder: Path) -> None:
    code, found = _check(EXAMPLE / "clock.toml", run_folder)
    assert code == 0, found
    assert {name: each["status"] for name, each in found.items()} == {
        "starts": "pass", "BPF programs": "warn", "on, off": "pass", "stats": "pass",
        "flush": "pass", "telemetry": "pass", "stop": "pass",
    }  # fmt: skip
    assert not list(run_folder.iterdir())


@pytest.mark.parametrize(
    ("changes", "where", "said"),
    [
        ({"listener.listen()": "raise SystemExit('no port')"}, "protocol", "no port"),
        ({'"ready": True, "programs": []': '"ready": True'}, "protocol", "BPF programs"),
        ({'"seconds": time.perf_counter() - began': '"took": 1'}, "protocol", "without seconds"),
        ({', "map_bytes": 0': ""}, "stats", "map_bytes"),
        ({"{self.options.otlp}/v1/metrics": "http://127.0.0.1:9/"}, "telemetry", "none arrived"),
    ],
)
def test_what_is_wrong_is_told(
    tmp_path: Path, run_folder: Path, changes: dict[str, str], where: str, said: str
) -> None:
    code, found = _check(_copy(tmp_path, **changes), run_folder)
    assert said in found[where]["detail"], found
    assert found[where]["fix"]
    assert (code, found[where]["status"]) in ((2, "fail"), (0, "warn"))


def test_the_included_collectors_keep_to_the_protocol_too(run_folder: Path) -> None:
    code, found = _check(Path("flows"), run_folder)
    assert code == 0, found
    assert found["BPF programs"]["status"] == "pass"
