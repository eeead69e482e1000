"""Published claims that can be checked, one TOML file a source in `claims/`; `claimed` asks.

A claim that figures can answer has a quantity, a bound and the command that measures it; another
one says why nothing answers it. What a claim leaves open is read in one way for all, and told.
"""

from __future__ import annotations

import functools
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from harness.errors import InputError
from harness.model import Claim

FOLDER = Path(__file__).with_name("claims")
ABOUT = 0.2  # how far from a claimed figure, as a share of it, is still about it
Kind = Literal["claim", "goal", "stand-in"]
KINDS: tuple[Kind, ...] = get_args(Kind)
BOUNDS = ("at_most", "at_least", "between", "about")
_SHARED = ("tool", "source", "url", "date", "conditions", "quantity", "collectors", "command",
           "workloads", "differs", "unanswerable", "kind")  # fmt: skip
_NEEDED = ("id", "tool", "text", "source", "date", "conditions")
_ANSWERED = ("quantity", "collectors", "command")
_OF_ANSWERS = (*_ANSWERED, "workloads", "differs", "kind")
_FORMS = {  # of what a table shows as it stands
    "kind": "|".join(KINDS),
    "id": r"[a-z0-9-]+",
    "url": r"(https?://[^\s()<>|\"]+)?",
    "command": r"[^`|\n]*",
}


@dataclass(frozen=True)
class CheckableClaim:
    """What its source says, and either what answers it or why nothing does (`unanswerable`).

    `collectors` are the alternatives that each answer it: names, joined by + where several run
    together. `kind`: a claim of a program, a goal, or a claim that a stand-in answers, another
    program or machine than it is of. `workloads` limits the services, if any are named; `differs`
    is what is always different here. `least` and `most` bound what the claim allows, in the
    quantity's unit. `beside` are the collectors beside whose figures reports print it.
    """

    id: str
    tool: str
    text: str
    source: str
    date: str
    conditions: str
    beside: tuple[str, ...] = ()
    url: str = ""
    quantity: str = ""
    collectors: tuple[str, ...] = ()
    command: str = ""
    workloads: tuple[str, ...] = ()
    differs: str = ""
    unanswerable: str = ""
    kind: Kind = "claim"
    least: float = -math.inf
    most: float = math.inf


def load(folder: Path = FOLDER) -> list[CheckableClaim]:
    """All claims, file by file; InputError that says what is wrong with one."""
    found = [each for path in sorted(folder.glob("*.toml")) for each in _read(path)]
    seen: set[str] = set()
    for claim in found:
        if claim.id in seen:
            raise InputError(f"Two claims are called {claim.id}.", next_step="Rename one of them.")
        seen.add(claim.id)
    return found


def printed_beside(collector: str) -> tuple[Claim, ...]:
    """What reports print of published claims beside this collector's figures."""
    return tuple(
        Claim(f"{each.tool}: {each.text}", f"{each.source}; {each.conditions}", each.date)
        for each in _shipped()
        if collector in each.beside
    )


@functools.cache
def _shipped() -> tuple[CheckableClaim, ...]:
    return tuple(load())


def _read(path: Path) -> Iterator[CheckableClaim]:
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"The claims {path} cannot be read.", f"{error}.", "Correct the file; it is TOML."
        ) from error
    shared = {key: value for key, value in data.items() if key != "claims"}
    for table in data.get("claims", ()):
        for problem in _problems(table, shared):
            name = table.get("id", "without an id")
            raise InputError(
                f"The claim {name} of {path.name} cannot be used: {problem}",
                next_step="Correct it there; docs/claims.md says what a claim has.",
            )
        yield _claim(table, shared)


def _problems(table: Mapping[str, Any], shared: Mapping[str, Any]) -> Iterator[str]:
    merged = _merged(table, shared)
    known = {each.name for each in fields(CheckableClaim)} - {"least", "most"} | set(BOUNDS)
    if unknown := sorted((set(table) - known) | (set(shared) - set(_SHARED))):
        yield f"unknown keys: {', '.join(unknown)}."
    if missing := [key for key in _NEEDED if not merged.get(key)]:
        yield f"it lacks {', '.join(missing)}: nobody could look it up."
    for key, form in _FORMS.items():
        if not re.fullmatch(form, str(merged.get(key, ""))) and merged.get(key):
            yield f"{key} cannot be {merged[key]!r}."
    bounds = [key for key in BOUNDS if key in table]
    if merged.get("unanswerable"):
        if bounds:
            yield f"it cannot be answered, and says {', '.join(bounds)}."
        return
    if missing := [key for key in _ANSWERED if not merged.get(key)]:
        yield f"it lacks {', '.join(missing)}; or unanswerable, with the reason."
    if len(bounds) != 1:
        yield f"it needs one of {', '.join(BOUNDS)}."
    elif not _is_bound(bounds[0], table[bounds[0]]):
        yield f"{bounds[0]} cannot be {table[bounds[0]]!r}."


def _is_bound(key: str, value: Any) -> bool:
    if key == "between":
        return isinstance(value, list) and len(value) == 2 and value[0] < value[1]
    is_number = isinstance(value, (int, float)) and math.isfinite(value)
    return is_number and (key != "about" or value != 0)


def _merged(table: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """A claim with what its file says for all; one that nothing answers takes nothing to answer."""
    if "unanswerable" in table:
        shared = {k: v for k, v in shared.items() if k not in _OF_ANSWERS}
    return {**shared, **table}


def _claim(table: Mapping[str, Any], shared: Mapping[str, Any]) -> CheckableClaim:
    merged = _merged(table, shared)
    bounds = {key: merged.pop(key) for key in BOUNDS if key in merged}
    least, most = _range(bounds)
    merged |= {key: tuple(merged.get(key, ())) for key in ("collectors", "workloads", "beside")}
    merged["collectors"] = tuple(together(each.split("+")) for each in merged["collectors"])
    return CheckableClaim(**merged, least=least, most=most)


def _range(bounds: Mapping[str, Any]) -> tuple[float, float]:
    for key, value in bounds.items():
        if key == "between":
            return float(value[0]), float(value[1])
        if key == "about":
            return float(value - ABOUT * abs(value)), float(value + ABOUT * abs(value))
        return (-math.inf, float(value)) if key == "at_most" else (float(value), math.inf)
    return -math.inf, math.inf


def together(names: Sequence[str]) -> str:
    """One name for collectors that run together, in whichever order they were named."""
    return "+".join(sorted(names))
