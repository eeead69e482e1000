"""requests.npz as it is read after a trial: what became of each request."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import StoreError

NAME = "requests.npz"


@dataclass(frozen=True)
class Requests:
    """Requests as columns of equal length; times are CLOCK_MONOTONIC ns.

    `status` is the HTTP status, 0 without an answer; `failed` is what the load driver counts as a
    failure; `route` indexes `route_names`; `size` is the length of the answer's body; `twin` tells
    the requests to the second service from those to the first.
    """

    due_ns: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    status: NDArray[np.int16]
    failed: NDArray[np.bool_]
    route: NDArray[np.uint8]
    size: NDArray[np.int32]
    twin: NDArray[np.bool_]
    route_names: NDArray[np.str_]


def read(path: Path) -> Requests:
    """The requests of a trial; StoreError if the file cannot be read.

    Columns that earlier versions did not write say that nothing of it happened.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            status = data["status"]
            none = np.zeros(len(status), np.bool_)
            found = Requests(
                due_ns=data["due_ns"],
                start_ns=data["start_ns"],
                end_ns=data["end_ns"],
                status=status,
                failed=data.get("failed", none),
                route=data["route"],
                size=data["bytes"],
                twin=data.get("twin", none),
                route_names=np.asarray(data["route_names"], dtype=np.str_),
            )
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise StoreError(
            f"{path} cannot be read: {error}.",
            next_step=f"Remove {path.parent}, then resume the run.",
        ) from error
    if len({len(column) for name, column in vars(found).items() if name != "route_names"}) > 1:
        raise StoreError(
            f"{path} is damaged: its columns are of several lengths.",
            next_step=f"Remove {path.parent}, then resume the run.",
        )
    return found
