"""Shapes of PromQL that alert rules and dashboards share."""

from __future__ import annotations

PANEL = "$__rate_interval"
"""The window that Grafana chooses for a panel: at least four times its data source's interval."""


def rate(counter: str, by: str, where: str = "", window: str = PANEL) -> str:
    """What a counter grows by in a second, added up by the labels `by`."""
    return f"sum by ({by}) (rate({counter}{{{where}}}[{window}]))"


def grown(counter: str, by: str, where: str = "", window: str = "$__range") -> str:
    """What a counter of losses grew by, added up by the labels `by`.

    Many such counters begin with their first loss, which increase() takes for where they came
    from: what a series that is younger than the window began with is added. One that was old
    when Prometheus first saw it counts as new.
    """
    series = f"{counter}{{{where}}}"
    since = f"sum by ({by}) (increase({series}[{window}]))"
    first = f"sum by ({by}) ({series} unless {series} offset {window})"
    return f"({since} + {or_zero(first, since)})"


def or_zero(part: str, whole: str) -> str:
    """`part` where it is there, else zero for each group of `whole`: no failure is an answer."""
    return f"({part} or 0 * {whole})"


def share(part: str, whole: str) -> str:
    """`part` in `whole`, from 0 to 1; both by the same labels."""
    return f"{or_zero(part, whole)} / {whole}"


def quantile(q: float, histogram: str, by: str, where: str = "", window: str = PANEL) -> str:
    """A quantile of a classic histogram, by the labels `by`."""
    return f"histogram_quantile({q:g}, {rate(f'{histogram}_bucket', f'le, {by}', where, window)})"
