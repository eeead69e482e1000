"""Small charts under the names and versions of the pinned ones, for tests of what is packed."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from harness.targets.kubernetes import charts
from harness.targets.kubernetes.charts import Chart

_POD = """apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec:
      containers:
        - name: one
          image: "IMAGE"
"""
OPERATED = """apiVersion: apps/v1
kind: Deployment
metadata: {name: operator}
spec:
  selector: {matchLabels: {app: operator}}
  template:
    metadata: {labels: {app: operator}}
    spec:
      containers:
        - image: "quay.io/prometheus-operator/prometheus-operator:v0.9"
          name: operator
          args:
            - --localhost=127.0.0.1
            - --prometheus-config-reloader=quay.io/prometheus-operator/reloader:v0.9
---
apiVersion: monitoring.coreos.com/v1
kind: Prometheus
metadata: {name: monitoring}
spec:
  image: quay.io/prometheus/prometheus:v3.9
---
apiVersion: v1
kind: ConfigMap
metadata: {name: text}
data:
  example.yaml: |
    image: of/no:pod
"""
IMAGES = {
    "tempo": "docker.io/grafana/tempo:2.9",
    "loki": "docker.io/grafana/loki:3.9",
    "opentelemetry-collector": "docker.io/otel/collector:0.9",
}
NAMED = sorted(
    [
        *IMAGES.values(),
        "quay.io/prometheus-operator/prometheus-operator:v0.9",
        "quay.io/prometheus-operator/reloader:v0.9",
        "quay.io/prometheus/prometheus:v3.9",
    ]
)
"""What all of them run, but for ours."""


def archives(folder: Path, templates: Mapping[str, str] | None = None) -> Path:
    """A folder with an archive of each chart of others; `templates` by the charts' names."""
    folder.mkdir(exist_ok=True)
    for chart in charts.known():
        if chart.repository:
            image = IMAGES.get(chart.chart, "")
            made = _POD.replace("IMAGE", image) if image else OPERATED
            archive(folder, chart, (templates or {}).get(chart.chart, made))
    return folder


def archive(folder: Path, chart: Chart, template: str, version: str = "") -> None:
    """One of them; `version` is another than the one that its name has."""
    described = f"apiVersion: v2\nname: {chart.chart}\nversion: {version or chart.version}\n"
    with tarfile.open(folder / chart.archive, "w:gz") as made:
        for name, text in (("Chart.yaml", described), ("templates/all.yaml", template)):
            entry = tarfile.TarInfo(f"{chart.chart}/{name}")
            entry.size = len(text)
            made.addfile(entry, io.BytesIO(text.encode()))
