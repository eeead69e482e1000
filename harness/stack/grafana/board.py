"""What a dashboard consists of, as data; each module in `boards` says one, `panels` builds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["prometheus", "loki", "tempo"]
Kind = Literal["lines", "points", "figure", "table", "logs", "traces", "graph"]


@dataclass(frozen=True)
class Query:
    """One question to a data source; `legend` names each series, in Grafana's {{label}} form.

    `exemplars` shows traces as points among the series. `unit` is of a table's column, if it is not
    the panel's. Of a graph, `expr` filters its edges.
    """

    expr: str
    legend: str = ""
    source: Source = "prometheus"
    exemplars: bool = False
    unit: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel; `what` says what it shows and what to do about it.

    From the first of `limits` on it is orange, from the second red; below `least` it is red.
    `width` is of 24 columns. `link` is the uid of the dashboard to go on with.
    """

    kind: Kind
    title: str
    what: str
    queries: tuple[Query, ...]
    unit: str = "short"
    limits: tuple[float, ...] = ()
    least: float | None = None
    width: int = 12
    link: str = ""

    @property
    def source(self) -> Source:
        """Where all its queries go."""
        return self.queries[0].source


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Variable:
    """A list to choose from: the values of a label of a metric; all of them to begin with.

    `every` is the pattern for all; ".*" also matches series without the label, which Loki refuses.
    """

    name: str
    label: str
    metric: str
    of: str
    every: str = ".+"

    @property
    def query(self) -> str:
        """As Grafana asks Prometheus for it."""
        return f"label_values({self.metric}, {self.of})"


@dataclass(frozen=True)
class Board:
    """A dashboard; `question` is what it answers."""

    uid: str
    title: str
    question: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]
    hours: float = 1.0
