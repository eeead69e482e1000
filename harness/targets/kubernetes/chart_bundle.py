"""The production profile in a bundle: its charts gathered, their images named; `sources` asks.

Charts come from a folder, from helm's cache, or from their projects, in this order. What is packed
are their archives as they are, our values and those that a person gives, and whatever image helm's
answer names.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CommandError, NeedError
from harness.linux import processes
from harness.targets.kubernetes import charts, images, packing, rendering
from harness.targets.kubernetes.archive import PRODUCTION, Content
from harness.targets.kubernetes.charts import Chart

CHARTS, VALUES = "charts", "values"
"""Where in the file the charts' archives are, and a person's own values."""
_PULL_SECONDS = 300.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Given:
    """What a person says: a folder of charts' archives, and RELEASE=FILE of further values."""

    charts: str = ""
    values: Sequence[str] = ()


def content(given: Given, tell: Tell) -> Content:
    """Everything but the images themselves, which it names.

    NeedError names a chart that cannot be had.
    """
    further, image = charts.given(given.values), images.name()
    with tempfile.TemporaryDirectory(prefix="harness-charts-") as made:
        gather(given.charts, Path(made), tell)
        own = Path(made) / "image.json"
        own.write_text(json.dumps({"image": image}))
        names = set()
        for chart in charts.known():
            given_to = [chart.file, *further[chart.release]]
            given_to += [] if chart.repository else [own]
            names.update(rendering.images(chart, made, given_to))
        packed = {f"{CHARTS}/{file.name}": file.read_bytes() for file in Path(made).glob("*.tgz")}
    own_values = _further(further)
    own_files = {name: file.read_bytes() for name, (_, file) in own_values.items()}
    files = {**packed, **_ours(image), **own_files}
    told = [f"{release}={name}" for name, (release, _) in own_values.items()]
    return Content(PRODUCTION, charts.whole(image), sorted(names), files, told)


def gather(folder: str, into: Path, tell: Tell) -> None:
    """Put the archive of each chart of others into a folder; NeedError if one cannot be had.

    `folder` has all of them, if it is given; else helm's cache may, else their projects do.
    """
    charts.require(folder)
    place = Path(folder) if folder else _cache()
    for chart in {each.archive: each for each in charts.known() if each.repository}.values():
        if (place / chart.archive).is_file():
            shutil.copyfile(place / chart.archive, into / chart.archive)
        else:
            _pull(chart, into, place, tell)
        _require_right(chart, into, place)


def _cache() -> Path:
    """Where helm keeps charts that it has pulled once."""
    said = processes.run(["helm", "env", "HELM_REPOSITORY_CACHE"], check=False).stdout.strip()
    return Path(said or "/nonexistent")


def _pull(chart: Chart, into: Path, cache: Path, tell: Tell) -> None:
    words = [chart.chart, "--repo", chart.repository, "--version", chart.version]
    tell(f"pulling the chart {chart.chart} {chart.version}")
    try:
        argv = ["helm", "pull", *words, "--destination", str(into)]
        processes.run(argv, timeout=_PULL_SECONDS)
    except CommandError as error:
        raise NeedError(
            f"The chart {chart.chart} {chart.version} cannot be had: it is not in helm's cache "
            f"({cache}), and cannot be pulled from {chart.repository}.",
            error.why,
            f"Where there is a network: helm pull {' '.join(words)}; bring {chart.archive} here, "
            "and name its folder: --charts DIR.",
        ) from error


def _require_right(chart: Chart, folder: Path, place: Path) -> None:
    """NeedError unless the archive is of this chart in this version."""
    done = processes.run(["helm", "show", "chart", str(folder / chart.archive)], check=False)
    said = {
        key: found[1]
        for key in ("name", "version")
        if (found := re.search(rf"^{key}: [\"']?([^\s\"']+)", done.stdout, re.MULTILINE))
    }
    if said != {"name": chart.chart, "version": chart.version}:
        is_one = f"It is {said['name']} {said['version']}." if len(said) == 2 else done.stderr
        raise NeedError(
            f"{place / chart.archive} is not the chart {chart.chart} {chart.version}.",
            " ".join(is_one.split())[-300:],
            f"Get it anew: helm pull {chart.chart} --repo {chart.repository} "
            f"--version {chart.version}.",
        )


def _ours(image: str) -> dict[str, bytes]:
    """Our values and our own chart, for who installs by helm alone."""
    found = {f"production/{path.name}": path.read_bytes() for path in charts.VALUES.iterdir()}
    return {**found, **packing.chart_files(), "values.json": json.dumps({"image": image}).encode()}


def _further(given: Mapping[str, Sequence[Path]]) -> dict[str, tuple[str, Path]]:
    """By its name in the bundle: of which release a file of a person's own values is."""
    return {
        f"{VALUES}/{release}.{number}.yaml": (release, file)
        for release, files in given.items()
        for number, file in enumerate(files)
    }
