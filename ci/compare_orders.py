"""How much a trial of the method `block` errs by the order of its stretches, on recorded windows.

python ci/compare_orders.py [PUBLISHED...]: folders with measurements.jsonl.gz; prints the tables of
docs/adr/0046. Nothing was installed and removed in these windows: collectors that were switched in
them are on in half of each stretch, so that what an order finds is its error.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PUBLISHED = Path(__file__).resolve().parents[1] / "reports" / "published"
SECONDS = (12.0, 24.0, 48.0)  # that a trial is metered for
ORDERS: Mapping[str, Sequence[tuple[float, bool]]] = {
    "halves": ((0.5, False), (0.5, True)),
    "quarter, half, quarter": ((0.25, False), (0.5, True), (0.25, False)),
    "five: an eighth, quarters, an eighth": [
        (0.125 if index in (0, 4) else 0.25, index % 2 == 1) for index in range(5)
    ],
    "nine: a sixteenth, eighths, a sixteenth": [
        (0.0625 if index in (0, 8) else 0.125, index % 2 == 1) for index in range(9)
    ],
}
"""What share of a trial each stretch takes, and whether the collectors are there."""
KEPT = ("cpu.workload", "requests")
Array = NDArray[np.float64]


def streams(path: Path) -> Iterator[tuple[str, float, Array]]:
    """Service, seconds a window, and CPU seconds and requests of each window of a trial."""
    found: dict[tuple[str, str], dict[int, dict[str, float]]] = defaultdict(dict)
    with gzip.open(path / "measurements.jsonl.gz", "rt") as lines:
        for line in lines:
            told = json.loads(line)
            if told["metric"] in KEPT and told["trial"].endswith("switched"):
                windows = found[told["workload"], told["trial"]]
                windows.setdefault(told["window"], {})[told["metric"]] = told["value"]
    seconds = float(json.loads((path / "run.json").read_text())["experiment"]["window_seconds"])
    for (service, _), windows in found.items():
        rows = [windows[index] for index in sorted(windows) if len(windows[index]) == len(KEPT)]
        yield service, seconds, np.array([[row[name] for name in KEPT] for row in rows])


def errors(stream: Array, windows: int, order: Sequence[tuple[float, bool]]) -> list[float]:
    """What is found of nothing, in % of a request, in each part of so many windows."""
    ends = np.rint(np.cumsum([share for share, _ in order]) * windows).astype(int)
    told = []
    for start in range(0, len(stream) - windows + 1, windows):
        parts = np.split(stream[start : start + windows], ends[:-1])
        us = {
            on: np.divide(*sum(p.sum(axis=0) for p, (_, at) in zip(parts, order, strict=True)
                               if at == on))
            for on in (True, False)
        }  # fmt: skip
        told.append(100 * float(us[True] / us[False] - 1))
    return told


def main(arguments: Sequence[str]) -> None:
    """Print the standard deviation of what each order finds, and that of windows in any order."""
    paths = [Path(each) for each in arguments] or [PUBLISHED / "standard", PUBLISHED / "quick"]
    print("| run, service | trial, s | trials | " + " | ".join(ORDERS) + " | any order |")
    print("| --- |" + " --- |" * (len(ORDERS) + 3))
    draw = np.random.default_rng(1)
    for path in paths:
        by_service: dict[str, list[tuple[float, Array]]] = defaultdict(list)
        for service, window, stream in streams(path):
            by_service[service].append((window, stream))
        for service, each in by_service.items():
            for seconds in SECONDS:
                whole = [(round(seconds / window), stream) for window, stream in each]
                found = {name: [e for n, stream in whole for e in errors(stream, n, order)]
                         for name, order in ORDERS.items()}  # fmt: skip
                found["any order"] = [
                    e for n, stream in whole
                    for e in errors(draw.permutation(stream), n, ORDERS["halves"])
                ]  # fmt: skip
                if len(found["halves"]) >= 6:
                    told = " | ".join(f"{np.std(each, ddof=1):.2f}" for each in found.values())
                    print(f"| {path.name}, {service} | {seconds:g} | {len(found['halves'])} "
                          f"| {told} |")  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
