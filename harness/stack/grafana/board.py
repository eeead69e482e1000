"""What a dashboard consists of, as data; each module in `boards` says one, `panels` builds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.stack.searches import Lines, Search

Signal = Literal["metrics", "logs", "traces"]
Kind = Literal["lines", "points", "figure", "table", "logs", "traces", "graph"]


@dataclass(frozen=True)
class Query:
    """One question, in PromQL or a search; `legend` names each series, in Grafana's {{label}} form.

    `exemplars` shows traces as points among the series. `unit` is of a table's column, if it is not
    the panel's.
    """

    expr: str | Search
    legend: str = ""
    exemplars: bool = False
    unit: str = ""

    @property
    def signal(self) -> Signal:
        """Whose keeper is asked."""
        if isinstance(self.expr, str):
            return "metrics"
        return "logs" if isinstance(self.expr, Lines) else "traces"


@dataclass(frozen=True)
class Panel:
    """One panel; `what` says what it shows and what to do about it.

    From the first of `limits` on it is orange, from the second red; below `least` it is red.
    `width` is of 24 columns. `link` is the uid of the dashboard to go on with. One of `each`, a
    variable, is shown for each of its values. `of` names the one component that it is about,
    `span_metrics` says that it needs metrics that are made of spans: where they are not, it is left
    out.
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
    each: str = ""
    of: str = ""
    span_metrics: bool = False

    @property
    def signal(self) -> Signal:
        """Where all its queries go."""
        return self.queries[0].signal


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
