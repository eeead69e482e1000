"""Who calls a module, as its first lines say, is who does: a reader follows them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "harness").rglob("*.py"))
}


def _imported(text: str) -> Iterator[str]:
    """What a module imports, or starts as a process or names by its dotted path."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


IMPORTS = {name: set(_imported(path.read_text())) for name, path in MODULES.items()}


def _callers(name: str) -> set[str]:
    """Modules that use this one, their packages, and what is defined at the top of them."""
    found: set[str] = set()
    for user in (each for each in MODULES if name.removesuffix(".__main__") in IMPORTS[each]):
        found |= {*user.split(".")[1:], user.removeprefix("harness.")}
        for node in ast.parse(MODULES[user].read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
    return found


def _said(name: str) -> list[str]:
    """Who is named behind the last semicolon of a module's first paragraph."""
    doc = ast.get_docstring(ast.parse(MODULES[name].read_text())) or ""
    first, _, callers = doc.partition("\n\n")[0].rpartition(";")
    return re.findall(r"`([A-Za-z_.]+)`", callers) if first else []


@pytest.mark.parametrize("name", [each for each in MODULES if _said(each)])
def test_a_module_is_called_by_whom_it_names(name: str) -> None:
    assert set(_said(name)) - _callers(name) == set()
