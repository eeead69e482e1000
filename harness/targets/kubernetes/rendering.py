"""Which images a chart's pods run, and which collectors: what helm makes of it is read; for
`chart_bundle` and `production`.

Pods are named in many kinds of objects, those that an operator makes pods of among them, so that
every `image` counts wherever it stands, but for objects that only carry text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness.errors import CommandError, InputError
from harness.linux import processes
from harness.targets.kubernetes.charts import Chart

KUBERNETES = "1.34.0"
"""What charts are told to be made for; a cluster of another version runs the same images."""
_DOCUMENTS = re.compile(r"^---\s*$", re.MULTILINE)
_TEXT = re.compile(r"^kind:\s*[\"']?(ConfigMap|Secret|CustomResourceDefinition)\b", re.MULTILINE)
_IMAGE = re.compile(r"(?:^|[\s{,])[\"']?image[\"']?:[ \t]*[\"']?([^\s\"'#,{}]+)")
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
_COLLECTORS = re.compile(r"^\s*command: \[/usr/local/bin/agent, ([^\]]+)\]", re.MULTILINE)
_TOLD = re.compile(r"--prometheus-config-reloader=([^\s\"']+)")
"""What an operator is told to put beside whatever it makes."""
_SECONDS = 120.0


def images(chart: Chart, folder: str, values: Sequence[Path]) -> list[str]:
    """The images of a chart from this folder with these values; CommandError if helm refuses.

    InputError if one is named by its digest: what docker saves is known by its tag alone.
    """
    found = named(_rendered(chart, folder, values))
    if fixed := [image for image in found if "@" in image]:
        raise InputError(
            f"The chart {chart.chart} {chart.version} names {', '.join(fixed)} by its digest.",
            "In a bundle an image is known by its tag: docker saves and loads it by that.",
            f"Give values that name a tag alone: --values {chart.release}=FILE.",
        )
    return found


def collectors(chart: Chart, values: Sequence[Path]) -> list[str]:
    """The collectors of the agents that our chart makes with these values."""
    found = _COLLECTORS.search(_rendered(chart, "", values))
    return found[1].split("+") if found else []


def named(rendered: str) -> list[str]:
    """The images that objects in YAML name, in order, each once."""
    found = set()
    for each in _DOCUMENTS.split(rendered):
        if not _TEXT.search(each):
            text = _COMMENT.sub("", each)
            found.update(_IMAGE.findall(text) + _TOLD.findall(text))
    return sorted(found)


def _rendered(chart: Chart, folder: str, values: Sequence[Path]) -> str:
    argv = ["helm", "template", chart.release, *chart.place(folder), "--namespace=harness"]
    argv += ["--skip-tests", f"--kube-version={KUBERNETES}"]
    argv += ["--api-versions=monitoring.coreos.com/v1", *(f"--values={file}" for file in values)]
    try:
        return processes.run(argv, timeout=_SECONDS).stdout
    except CommandError as error:
        raise CommandError(
            f"helm makes nothing of the chart {chart.chart} {chart.version} with its values.",
            error.why,
            f"See what it says: {' '.join(argv)}.",
        ) from error
