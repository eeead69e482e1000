"""Draws folded stacks as a flame graph: one SVG, in a page or in a file; called by report.build."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

_ROW, _TOP, _GAP = 18, 58, 1  # pixels
_LEAST_SHARE = 0.0005  # narrower frames are not drawn
_LEAST_TEXT = 0.02  # nor is the text of frames narrower than this
_SHADES = 3
_KINDS = {"native": "native, Go, Java", "python": "Python", "kernel": "kernel", "none": "no symbol"}

_PLACE = re.compile(r"\(.*:\d+\)$")  # "hot (app.py:6)"

# one hue a kind; shades only tell neighbours apart
_STYLE = """
.flame{font:12px system-ui,sans-serif;display:block;overflow:visible}
.flame>text{fill:currentColor}.flame .h{font-size:15px;font-weight:600}.flame .q{opacity:.7}
.flame .f{cursor:pointer}.flame .f text{fill:#1c1917;pointer-events:none}
.flame .f:hover>rect{stroke:currentColor;stroke-width:2}.flame .n text{display:none}
.flame .all{fill:#d6d3d1}.flame .none{fill:#cbc6c1}
.flame .native0{fill:#f6ad55}.flame .native1{fill:#f9bd76}.flame .native2{fill:#f2994a}
.flame .python0{fill:#68b6e3}.flame .python1{fill:#86c5ea}.flame .python2{fill:#58a6d6}
.flame .kernel0{fill:#b79be0}.flame .kernel1{fill:#c6afe8}.flame .kernel2{fill:#a98bd6}
@media (prefers-color-scheme:dark){.flame .f>rect,.flame .key{filter:brightness(.88)}}
"""

# a click shows one frame and what it calls in full width; a click on the root shows everything
_SCRIPT = """
(function () {
  var graph = document.currentScript.closest('.flame');
  var frames = Array.from(graph.querySelectorAll('.f')).map(function (element) {
    var place = element.dataset.p.split(' ').map(Number);
    return {element: element, x: place[0], w: place[1], row: place[2]};
  });
  frames.forEach(function (chosen) {
    chosen.element.addEventListener('click', function () {
      frames.forEach(function (frame) {
        var inside = frame.x >= chosen.x - 1e-9 && frame.x + frame.w <= chosen.x + chosen.w + 1e-9
          && frame.row >= chosen.row;
        var below = frame.x <= chosen.x + 1e-9 && frame.x + frame.w >= chosen.x + chosen.w - 1e-9
          && frame.row < chosen.row;
        var x = below ? 0 : (frame.x - chosen.x) / chosen.w;
        var w = below ? 1 : frame.w / chosen.w;
        frame.element.style.display = inside || below ? '' : 'none';
        frame.element.setAttribute('x', 100 * x + '%');
        frame.element.setAttribute('width', 100 * w + '%');
        frame.element.classList.toggle('n', w < NARROW);
      });
    });
  });
})();
""".replace("NARROW", str(_LEAST_TEXT))


@dataclass
class _Node:
    count: int = 0
    children: dict[str, _Node] = field(default_factory=dict)


@dataclass(frozen=True)
class _Box:
    name: str
    count: int
    left: float
    share: float
    row: int


def render(folded: Mapping[str, int] | Path, title: str) -> str:
    """An <svg> of the stacks "frame;frame;frame" -> samples, or of a file with such lines."""
    stacks = read(folded) if isinstance(folded, Path) else folded
    root = _tree(stacks)
    if not root.count:
        return _svg(_TOP, title, "no samples", "")
    boxes = list(_boxes("all", root, 0.0, 0, root.count))
    rows = max(box.row for box in boxes) + 1
    body = "".join(_frame(box, root.count, rows) for box in boxes)
    body += f"<script><![CDATA[{_SCRIPT}]]></script>"
    legend = _legend({_kind(box.name) for box in boxes[1:]})
    about = f"{root.count:,} samples; width is CPU time; click a frame to zoom, the lowest to reset"
    return _svg(_TOP + rows * _ROW, title, about, legend + body)


def read(path: Path) -> dict[str, int]:
    """The stacks of a folded file."""
    lines = (line.rpartition(" ") for line in path.read_text().splitlines())
    return {stack: int(count) for stack, _, count in lines if stack}


def _tree(stacks: Mapping[str, int]) -> _Node:
    root = _Node()
    for stack, count in stacks.items():
        root.count += count
        node = root
        for name in stack.split(";"):
            node = node.children.setdefault(name, _Node())
            node.count += count
    return root


def _boxes(name: str, node: _Node, left: float, row: int, total: int) -> Iterator[_Box]:
    """The frames wide enough to draw; callers below their callees, siblings by name."""
    share = node.count / total
    if share < _LEAST_SHARE:
        return
    yield _Box(name, node.count, left, share, row)
    for child_name, child in sorted(node.children.items()):
        yield from _boxes(child_name, child, left, row + 1, total)
        left += child.count / total


def _frame(box: _Box, total: int, rows: int) -> str:
    kind = "all" if box.row == 0 else _kind(box.name)
    shade = "" if kind in ("all", "none") else str(zlib.crc32(box.name.encode()) % _SHADES)
    name = escape(box.name.removesuffix("_[k]"))
    about = f"{name}{' (kernel)' if kind == 'kernel' else ''}: {box.count:,} samples"
    y = _TOP + (rows - 1 - box.row) * _ROW
    narrow = " n" if box.share < _LEAST_TEXT else ""
    return (
        f'<svg class="f{narrow}" x="{100 * box.left:.3f}%" y="{y}" width="{100 * box.share:.3f}%"'
        f' height="{_ROW - _GAP}" data-p="{box.left:.6f} {box.share:.6f} {box.row}">'
        f"<title>{about}, {100 * box.count / total:.1f} %</title>"
        f'<rect class="{kind}{shade}" width="100%" height="100%" rx="2"/>'
        f'<text x="4" y="13">{name}</text></svg>'
    )


def _kind(name: str) -> str:
    if name.endswith("_[k]"):
        return "kernel"
    if name.startswith("["):
        return "none"
    return "python" if _PLACE.search(name) else "native"


def _legend(kinds: set[str]) -> str:
    parts, x = [], 0
    for kind, words in _KINDS.items():
        if kind in kinds:
            shade = "" if kind == "none" else "0"
            parts.append(
                f'<rect class="key {kind}{shade}" x="{x}" y="39" width="11" height="11" rx="2"/>'
                f'<text class="q" x="{x + 16}" y="49">{words}</text>'
            )
            x += 32 + 7 * len(words)
    return "".join(parts)


def _svg(height: int, title: str, about: str, body: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="flame" width="100%" height="{height}"'
        f' role="img" aria-label="{escape(title)}"><style>{_STYLE}</style>'
        f'<text class="h" x="0" y="14">{escape(title)}</text>'
        f'<text class="q" x="0" y="31">{about}</text>{body}</svg>'
    )
