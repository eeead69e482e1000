"""The folder of somebody else's collector, and the files laid into it; for `in_process` and `twin`.

`subject_process` makes its folder itself and takes the rest from here.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path


def filled(word: str, values: Mapping[str, str]) -> str:
    """With what the placeholders of a definition stand for."""
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def lay(files: Mapping[str, str], folder: Path, values: Mapping[str, str]) -> None:
    """Write the files of a definition into a folder, their placeholders filled."""
    for name, text in files.items():
        (folder / name).write_text(filled(text, values))


@contextlib.contextmanager
def folder(scratch: Path, name: str) -> Iterator[Path]:
    """An empty folder of a collector's own, as long as it is entered; nothing of it stays."""
    own = scratch / f"home-{name}"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
