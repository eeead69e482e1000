"""Matplotlib figures as inline SVG whose colours follow the page's theme; `plots` draws on it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from harness.report import style

# Stand-ins that become CSS variables of the page, so that one drawing serves light and dark.
# The arms' colours are those of Okabe and Ito, told apart by colour-blind readers too.
_STAND_INS = {
    "ink": "#010101",
    "muted": "#020202",
    "grid": "#030303",
    "paper": "#fdfdfd",
    "arm0": "#0a0a00",
    "arm1": "#0a0a01",
    "arm2": "#0a0a02",
    "arm3": "#0a0a03",
    "arm4": "#0a0a04",
    "arm5": "#0a0a05",
    "arm6": "#0a0a06",
    "payer0": "#0b0b00",
    "payer1": "#0b0b01",
    "payer2": "#0b0b02",
    "payer3": "#0b0b03",
    "payer4": "#0b0b04",
}
INK, MUTED, GRID, PAPER = (_STAND_INS[name] for name in ("ink", "muted", "grid", "paper"))
PAYERS = tuple(_STAND_INS[f"payer{i}"] for i in range(5))
ARMS = 6  # colours beside the baseline's

_STYLE = style.settings(INK, MUTED, GRID) | {
    "svg.fonttype": "none",
    "axes.titlecolor": INK,
    "text.color": INK,
    "hatch.linewidth": 0.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "path.simplify_threshold": 0.2,
}


def arm_names(arms: list[str], baseline: str) -> dict[str, str]:
    """The CSS variable of each arm's colour; the baseline's is grey, the others in their order."""
    others = [arm for arm in arms if arm != baseline]
    return {baseline: "arm0"} | {arm: f"arm{1 + i % ARMS}" for i, arm in enumerate(others)}


def arm_colour(name: str) -> str:
    """What to draw with for a CSS variable of `arm_names`."""
    return _STAND_INS[name]


@contextmanager
def figure(width: float, height: float) -> Iterator[Any]:
    """A figure of this size in inches, in the page's style."""
    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def svg(drawing: Any, title: str) -> Markup:
    """The figure as an <svg> that scales with the page, its text as text."""
    out = io.StringIO()
    with mpl.rc_context(_STYLE):
        drawing.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()[out.getvalue().index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', _open(title), text, count=1)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    for name, colour in _STAND_INS.items():
        text = text.replace(colour, f"var(--{name})")
    return Markup(_own_ids(text, title))


def _open(title: str) -> str:
    label = str(escape(title)).replace("\\", "")
    return rf'<svg \1 role="img" aria-label="{label}">'


def _own_ids(text: str, title: str) -> str:
    """Make ids unique on a page that holds many drawings."""
    prefix = re.sub(r"\W+", "-", title.lower())
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    return re.sub(r'xlink:href="#([^"]+)"', rf'xlink:href="#{prefix}-\1"', text)
