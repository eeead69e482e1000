"""Test that errors tell the reader what to do, that their tree is drawn right, and their wire form.

Which calls raise an error is read from the syntax trees of the whole package.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import errors
from harness.errors import CLASSES, HarnessError

PACKAGE = Path(errors.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
ADVISED = tuple(CLASSES)  # whoever reads any of them can do something


def _classes(root: type[HarnessError]) -> Iterator[type[HarnessError]]:
    yield root
    for each in root.__subclasses__():
        yield from _classes(each)


def _drawn() -> dict[str, str]:
    """The parent of each class in the tree of the docstring."""
    parents, path = {"HarnessError": "Exception"}, ["HarnessError"]
    for line in (errors.__doc__ or "").splitlines():
        name = line.lstrip("│├└─ ").split(" ")[0]
        if "──" not in line or not name.endswith("Error"):
            continue
        depth = line.index("── ") // 4 + 1
        parents[name] = path[depth - 1]
        path[depth:] = [name]
    return parents


def _unadvised(text: str) -> Iterator[int]:
    """Lines where a module makes an error without saying what to do next."""
    for call in ast.walk(ast.parse(text)):
        if not isinstance(call, ast.Call) or ast.unparse(call.func).split(".")[-1] not in ADVISED:
            continue
        if any(isinstance(each, ast.Starred) for each in call.args):
            continue
        named = {each.arg: each.value for each in call.keywords}
        step = call.args[2] if len(call.args) > 2 else named.get("next_step")
        if step is None or (isinstance(step, ast.Constant) and not step.value):
            yield call.lineno


def test_every_error_comes_with_a_next_step() -> None:
    lacking = {str(module): list(_unadvised(module.read_text())) for module in MODULES}
    assert {module: lines for module, lines in lacking.items() if lines} == {}


@pytest.mark.parametrize(
    "call",
    [
        "InputError('x')",
        "errors.NeedError('x', 'y')",
        "InputError('x', next_step='')",
        "StoreError('x')",
    ],
)
def test_an_error_without_a_next_step_is_found(call: str) -> None:
    assert list(_unadvised(f"\nraise {call}")) == [2]


@pytest.mark.parametrize("call", ["NeedError('x', 'y', 'z')", "InputError('x', next_step=said)"])
def test_an_error_with_a_next_step_is_none(call: str) -> None:
    assert not list(_unadvised(f"raise {call}"))


def test_the_tree_that_is_drawn_is_the_tree_of_the_classes() -> None:
    assert _drawn() == {each.__name__: each.__bases__[0].__name__ for each in CLASSES.values()}


def test_every_class_is_known_by_its_name() -> None:
    own = {each for each in _classes(HarnessError) if each.__module__ == errors.__name__}
    assert set(CLASSES.values()) == own


def test_no_other_module_adds_an_error_that_the_tree_does_not_show() -> None:
    for module in MODULES:
        if module == PACKAGE / "errors.py":
            continue
        for found in ast.walk(ast.parse(module.read_text())):
            if isinstance(found, ast.ClassDef):
                bases = {ast.unparse(base).split(".")[-1] for base in found.bases}
                assert not bases & set(CLASSES), f"{module}:{found.lineno}"


@pytest.mark.parametrize("kind", CLASSES.values(), ids=str)
def test_an_error_survives_the_way_to_another_process(kind: type[HarnessError]) -> None:
    error = kind("It broke.", "It was old.", "Buy a new one.")
    back = HarnessError.from_dict(json.loads(json.dumps(error.to_dict())))
    assert type(back) is kind
    assert (back.what, back.why, back.next_step, str(back)) == (
        error.what,
        error.why,
        error.next_step,
        str(error),
    )


@pytest.mark.parametrize("told", [{}, {"class": "SystemExit", "what": "Bye."}, {"class": None}])
def test_an_error_of_an_unknown_class_is_a_plain_one(told: dict[str, str | None]) -> None:
    back = HarnessError.from_dict(told)
    assert type(back) is HarnessError
    assert back.what == (told.get("what") or "")


def test_what_an_error_ends_depends_on_what_it_is_about() -> None:
    ends = {name: kind.ends for name, kind in CLASSES.items()}
    assert {name for name, each in ends.items() if each == "trial"} == {
        "CollectorError",
        "UnavailableError",
        "CommandError",
    }
    assert {name for name, each in ends.items() if each == "block"} == {
        "WorkloadError",
        "LoadError",
        "NodeError",
    }


def _sentences(text: str) -> Iterator[tuple[int, str]]:
    """What stands as text in the arguments of an error, where the whole argument is text."""
    for call in ast.walk(ast.parse(text)):
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] in ADVISED:
            named = [
                each.value for each in call.keywords if each.arg in ("what", "why", "next_step")
            ]
            for each in (*call.args, *named):
                if isinstance(each, ast.Constant) and isinstance(each.value, str) and each.value:
                    yield each.lineno, each.value
                elif isinstance(each, ast.JoinedStr) and isinstance(each.values[-1], ast.Constant):
                    yield each.lineno, str(each.values[-1].value)


def test_what_an_error_says_are_sentences() -> None:
    """Each part ends as a sentence does, so that three of them can be read after each other."""
    found = [
        f"{module.relative_to(PACKAGE)}:{line}: {said}"
        for module in MODULES
        for line, said in _sentences(module.read_text())
        if not said.rstrip().endswith((".", "?", "!", ".*", "= 2.0"))
    ]
    assert found == []
