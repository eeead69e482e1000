"""docs/kernels.md out of what is kept of the guests: `python -m tests.kernels.page`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tests.kernels import record
from tests.kernels.debian import ROOT
from tests.kernels.scene import EVENTS

PAGE = ROOT / "docs" / "kernels.md"
_INTRODUCTION = f"""# Kernels

`make test-kernels` writes this page. It boots kernels of distributions in QEMU, makes {EVENTS}
events of each kind there, and asks the included collectors how many they saw. The programs are
those that were built here, once, for all kernels. A collector takes the best hook that a kernel
offers, and says which; `guard` is also asked for each hook for files. What a kernel refuses is told
in the product's words. Guests may be emulated: nothing here is about time.

"""


def render(kept: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page."""
    if not kept:
        return _INTRODUCTION + "No kernel was tried yet.\n"
    notes = _Notes()
    parts = [
        _INTRODUCTION,
        "## What collectors see\n",
        *_table(["collector", "events", *_names(kept)], _case_rows(kept, notes)),
        "\nBehind what was seen are the hooks that were taken.\n",
        "\n## Types of hooks\n",
        *_table(["type", *_names(kept)], _hook_rows(kept, notes)),
        f"\nAn empty program of each type, run by {EVENTS} events.\n",
        "\n## What `harness doctor` says\n",
        *_table(["hook", *_names(kept)], _doctor_rows(kept, notes)),
        *_suites(kept),
        "\n## Why\n",
        *(f"{number}. {text}\n" for number, text in enumerate(notes.texts, start=1)),
    ]
    return "".join(parts)


class _Notes:
    """Reasons, each told once and referred to by its number."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def number(self, text: str) -> str:
        text = _plain(" ".join(text.split()))
        if text not in self.texts:
            self.texts.append(text)
        return f"({self.texts.index(text) + 1})"


def _names(kept: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [f"{each['distribution']}, {each['release']}" for each in kept.values()]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"\n| {' | '.join(head)} |\n|{' --- |' * len(head)}\n"
    for row in rows:
        yield f"| {' | '.join(row)} |\n"


def _case_rows(kept: Mapping[str, Mapping[str, Any]], notes: _Notes) -> Iterator[list[str]]:
    found = [{(c["collector"], c["what"]): c for c in each["cases"]} for each in kept.values()]
    for key in dict.fromkeys(key for each in found for key in each):
        yield [f"`{key[0]}`", key[1], *(_cell(each.get(key), notes) for each in found)]


def _hook_rows(kept: Mapping[str, Mapping[str, Any]], notes: _Notes) -> Iterator[list[str]]:
    found = [{h["name"]: h for h in each["hooks"]} for each in kept.values()]
    for name in dict.fromkeys(name for each in found for name in each):
        yield [f"`{name}`", *(_cell(each.get(name), notes) for each in found)]


def _doctor_rows(kept: Mapping[str, Mapping[str, Any]], notes: _Notes) -> Iterator[list[str]]:
    found = [each["doctor"] for each in kept.values()]
    for name in dict.fromkeys(name for each in found for name in each):
        cells = [
            "" if (words := each.get(name)) is None else _there(name, words, notes)
            for each in found
        ]
        yield [name, *cells]


def _there(name: str, words: str, notes: _Notes) -> str:
    return f"refused {notes.number(f'{name}: {words}')}" if words else "there"


def _cell(row: Mapping[str, Any] | None, notes: _Notes) -> str:
    if row is None:
        return "not tried"
    if "error" in row:
        return f"**failed** {notes.number(row['error'])}"
    if "refused" in row:
        refused = row["refused"]
        return f"refused {notes.number(' '.join(filter(None, (refused['what'], refused['why']))))}"
    seen = (
        f"{row['seen']} of {EVENTS}" if row["seen"] == EVENTS else f"**{row['seen']} of {EVENTS}**"
    )
    hooks = ", ".join(f"`{each}`" for each in row.get("hooks", ()))
    return f"{seen} {hooks}".strip()


def _suites(kept: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    ran = {each["release"]: each["tests"] for each in kept.values() if each["tests"]}
    if not ran:
        return
    yield "\n## Tests of tests/bpf that ran there\n"
    yield from _table(
        ["kernel", "passed", "failed", "skipped"],
        (
            [release, str(t["passed"]), _listed(t["failed"]), _listed(t["skipped"])]
            for release, t in ran.items()
        ),
    )


def _listed(cases: Sequence[Sequence[str]]) -> str:
    return "<br>".join(f"`{name}`: {_plain(why)}" for name, why in cases) or "none"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(render(record.kept()))
