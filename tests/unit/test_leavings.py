"""What lies around after somebody else's collector: found, and removed if a definition names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.linux import mount
from harness.node import leavings


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, ...]:
    """/run and /var/lib, and the root of the cgroups, as nobody else has them."""
    found = tuple(tmp_path / name for name in ("run", "lib", "cgroup"))
    for each in found:
        each.mkdir()
    monkeypatch.setattr(leavings, "_PLACES", (*found[:2], tmp_path / "absent"))
    monkeypatch.setattr(mount, "find", lambda kind: found[2] if kind == "cgroup2" else None)
    return found


def test_what_appears_is_seen_wherever_it_is_and_what_is_ours_is_not(
    places: tuple[Path, ...],
) -> None:
    before = leavings.around()
    for place in places:
        (place / "theirs").mkdir()
        (place / "harness-1").mkdir()
    assert leavings.around() - before == {str(place / "theirs") for place in places}
    said = leavings.told("mine", leavings.around() - before)
    assert str(places[0] / "theirs") in said
    assert "left alone" in said


def test_a_folder_a_file_and_a_link_go_and_what_a_link_leads_to_stays(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (kept / "inside").mkdir(parents=True)
    (tmp_path / "left-folder" / "deep").mkdir(parents=True)
    (tmp_path / "left-file").touch()
    (tmp_path / "left-link").symlink_to(kept)
    found = leavings.named([f"{tmp_path}/left-*", f"{tmp_path}/none*"])
    assert len(found) == 3
    for each in found:
        leavings.remove(Path(each))
    assert leavings.named([f"{tmp_path}/*"]) == {str(kept)}
    assert (kept / "inside").is_dir()
