"""Files of a host that is made up; for tests of playbooks."""

from __future__ import annotations

from pathlib import Path


def put(folder: Path, name: str, text: str) -> None:
    """Write a file, which can be executed; FOLDER in its text is where it all is."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text.replace("FOLDER", str(folder)))
    file.chmod(0o755)
