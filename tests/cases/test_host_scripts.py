"""The scripts that the playbooks run on hosts: what they refuse, and what they leave alone."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from harness.linux import processes
from harness.linux.processes import Completed

ROLES = Path(__file__).resolve().parents[2] / "playbooks" / "roles"
SCRIPTS = sorted(ROLES.glob("*/files/*.sh"))


def run(name: str, *words: str) -> Completed:
    return processes.run(["sh", str(ROLES / name), *words], check=False)


def staged(folder: Path, name: str, content: bytes, sum_of: bytes) -> None:
    place = folder / "staged" / name
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    line = f"{hashlib.sha256(sum_of).hexdigest()}  {name}\n"
    (folder / "staged" / "SHA256SUMS").write_text(line)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_one(script: Path) -> None:
    assert processes.run(["sh", "-n", str(script)], check=False).stderr == ""


def test_a_file_that_is_not_what_it_should_be_is_not_taken(tmp_path: Path) -> None:
    name = "harness-test-never-installed"
    staged(tmp_path, name, b"one", b"another")
    done = run("host/files/take.sh", str(tmp_path))
    assert done.returncode
    assert f"{name}: FAILED" in done.stderr
    assert not (tmp_path / "taken").exists()
    assert shutil.which(name) is None


def test_notes_are_of_what_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    assert run("host/files/note.sh", str(folder)).returncode == 0
    absent = (folder / "absent").read_text().splitlines()
    assert absent
    assert [each for each in absent if Path(each).exists()] == []
    assert (folder / "noted").exists()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_plan_names_what_is_there_of_what_was_not(tmp_path: Path) -> None:
    """Nothing is removed by it, and what was there before is never named."""
    new, old = tmp_path / "new", tmp_path / "old"
    new.mkdir()
    old.mkdir()
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "absent").write_text(f"{new}\n{tmp_path}/never\n")
    (folder / "packages").write_text("harness-test-no-such-package\n")
    done = run("reset/files/reset.sh", "plan", str(folder))
    assert done.returncode == 0, done.stderr
    assert str(new) in done.stdout.splitlines()
    assert str(old) not in done.stdout
    assert "never" not in done.stdout
    assert "package" not in done.stdout
    assert new.is_dir()
