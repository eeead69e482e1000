"""The charts of the production profile, from charts.toml, and what helm is told of each.

`production` asks, `chart_bundle` packs them.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import InputError, NeedError
from harness.targets.bundle import ROOT

CATALOG = Path(__file__).with_name("charts.toml")
VALUES = ROOT / "manifests" / "production"


@dataclass(frozen=True)
class Volume:
    """What a chart's values ask for: so many volumes of so many GiB."""

    of: str
    count: int
    gib: int


@dataclass(frozen=True)
class Chart:
    """One release: which chart of whom in which version, and our values for it.

    Without a `repository` it is a folder of ours. `statefulsets` are made by an operator of it,
    `leaves` is what stays when helm has uninstalled it, each as kubectl's words.
    """

    title: str
    chart: str
    version: str
    release: str
    does: str
    licence: str
    values: str
    repository: str = ""
    statefulsets: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    volumes: tuple[Volume, ...] = ()

    @property
    def file(self) -> Path:
        """Our values for it."""
        return VALUES / self.values

    @property
    def archive(self) -> str:
        """What the chart is called where it is kept in a folder."""
        return f"{self.chart}-{self.version}.tgz"

    @property
    def gib(self) -> int:
        """How much storage our values ask for."""
        return sum(each.count * each.gib for each in self.volumes)

    def place(self, folder: str = "") -> list[str]:
        """The words that tell helm where it is; `folder` has the archives, if it is given."""
        if not self.repository:
            return [str(ROOT / self.chart)]
        if folder:
            return [str(Path(folder).absolute() / self.archive)]
        return [self.chart, f"--repo={self.repository}", f"--version={self.version}"]


@cache
def known() -> Sequence[Chart]:
    """The charts in the order in which they are installed."""
    with CATALOG.open("rb") as stream:
        return tuple(map(_chart, tomllib.load(stream)["charts"]))


def require(folder: str) -> None:
    """NeedError if the folder lacks one of the archives."""
    wanted = dict.fromkeys(each.archive for each in known() if each.repository)
    if folder and (missing := [each for each in wanted if not (Path(folder) / each).is_file()]):
        raise NeedError(
            f"{folder} lacks {', '.join(missing)}.",
            next_step="Get each where there is a network: helm pull NAME --repo URL --version V; "
            "`harness up --profile production --plan` lists them.",
        )


def given(words: Sequence[str]) -> Mapping[str, list[Path]]:
    """Of RELEASE=FILE: a release's further files of values; InputError if there is no such one."""
    found: dict[str, list[Path]] = {each.release: [] for each in known()}
    for word in words:
        release, _, file = word.partition("=")
        if release not in found:
            raise InputError(
                f"There is no release {release!r}.",
                f"There are: {', '.join(found)}.",
                "Write --values RELEASE=FILE.",
            )
        if not Path(file).is_file():
            raise InputError(f"There is no file {file!r}.", next_step="Write RELEASE=FILE.")
        found[release].append(Path(file).absolute())
    return found


def fingerprint(chart: Chart, files: Sequence[Path], more: Mapping[str, Any]) -> str:
    """What tells one installation of a chart from another: its version, the files, the values."""
    found = hashlib.sha256(json.dumps([chart.chart, chart.version, more], sort_keys=True).encode())
    for path in [*files, *_own(chart)]:
        found.update(b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def whole(image: str) -> str:
    """What tells all charts with our values, and our image for them, from those of other code."""
    own = [
        fingerprint(each, [each.file], {} if each.repository else {"image": image})
        for each in known()
    ]
    return hashlib.sha256(" ".join(own).encode()).hexdigest()[:16]


def _own(chart: Chart) -> Iterator[Path]:
    """The files of a chart of ours, whose version does not change with each of them."""
    if not chart.repository:
        yield from (path for path in sorted((ROOT / chart.chart).rglob("*")) if path.is_file())


def _chart(entry: Mapping[str, Any]) -> Chart:
    volumes = tuple(Volume(**each) for each in entry.get("volumes", ()))
    lists = {key: tuple(entry.get(key, ())) for key in ("statefulsets", "leaves")}
    return Chart(**{**entry, **lists, "volumes": volumes})
