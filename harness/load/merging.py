"""One record of requests out of those of several load drivers; for `load_workers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.wire.files import whole

MOST, OTHERS = 255, "(other)"  # names of routes that a record has, as in `record.Record`

Columns = Mapping[str, npt.NDArray[Any]]


def merge(paths: Sequence[Path], path: Path) -> None:
    """Write every request of these files to `path`, in the order in which they ended.

    OSError or ValueError if one is no record.
    """
    merged: dict[str, Any] = together([_columns(each) for each in paths])
    with whole(path) as file:
        np.savez(file, **merged)


def together(parts: Sequence[Columns]) -> dict[str, npt.NDArray[Any]]:
    """The columns of all of them; a route has one number, by its name, whoever asked for it."""
    names = list(dict.fromkeys(str(name) for each in parts for name in each["route_names"]))
    number = {name: min(i, MOST) for i, name in enumerate(names)}
    routes = [_renumbered(each, number) for each in parts]
    found = {
        name: np.concatenate([each[name] for each in parts])
        for name in parts[0]
        if name not in ("route", "route_names")
    }
    found["route"] = np.concatenate(routes)
    order = np.argsort(found["end_ns"], kind="stable")
    kept = names if len(names) <= MOST + 1 else [*names[:MOST], OTHERS]
    return {
        **{name: column[order] for name, column in found.items()},
        "route_names": np.array(kept, dtype=np.str_),
    }


def _renumbered(part: Columns, number: Mapping[str, int]) -> npt.NDArray[np.uint8]:
    to = np.array([number[str(name)] for name in part["route_names"]], dtype=np.uint8)
    return to[part["route"]] if len(to) else part["route"].astype(np.uint8)


def _columns(path: Path) -> Columns:
    with np.load(path, allow_pickle=False) as columns:
        return dict(columns)
