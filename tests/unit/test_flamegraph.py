"""Flame graphs: every frame has its place, width and title, and the file is an XML document."""

from __future__ import annotations

import itertools
from pathlib import Path
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from harness.report import flamegraph

SVG = "{http://www.w3.org/2000/svg}"
STACKS = {
    "main;hot;work": 60,
    "main;hot;read_[k]": 20,
    "main;handle (app.py:7)": 15,
    "[libc.so.6]": 5,
}


def frames(svg: str) -> dict[str, ElementTree.Element]:
    """The frames by the text of their titles."""
    root = ElementTree.fromstring(svg)
    return {str(each.findtext(f"{SVG}title")): each for each in root.findall(f"{SVG}svg")}


def test_frames_have_titles_and_widths() -> None:
    drawn = frames(flamegraph.render(STACKS, "CPU"))
    assert {title: frame.get("width") for title, frame in drawn.items()} == {
        "all: 100 samples, 100.0 %": "100.000%",
        "main: 95 samples, 95.0 %": "95.000%",
        "hot: 80 samples, 80.0 %": "80.000%",
        "work: 60 samples, 60.0 %": "60.000%",
        "read (kernel): 20 samples, 20.0 %": "20.000%",
        "handle (app.py:7): 15 samples, 15.0 %": "15.000%",
        "[libc.so.6]: 5 samples, 5.0 %": "5.000%",
    }


def test_callees_stand_on_their_callers() -> None:
    drawn = frames(flamegraph.render(STACKS, "CPU"))
    height = {title.split(":")[0]: float(str(each.get("y"))) for title, each in drawn.items()}
    assert height["all"] > height["main"] > height["hot"] > height["work"]


def test_kinds_are_told_apart() -> None:
    drawn = frames(flamegraph.render(STACKS, "CPU"))
    kinds = {title.split(":")[0]: each.find(f"{SVG}rect") for title, each in drawn.items()}
    found = {title: str(rect.get("class"))[:6] for title, rect in kinds.items() if rect is not None}
    assert found["handle (app.py"] == "python"
    assert found["read (kernel)"] == "kernel"
    assert found["work"] == "native"
    assert found["[libc.so.6]"] == "none"


def test_names_are_escaped() -> None:
    svg = flamegraph.render({'operator<<"&;std::vector<int>': 1}, 'a < b & "c"')
    assert any(title.startswith('operator<<"&: 1') for title in frames(svg))


def test_no_samples() -> None:
    assert "no samples" in flamegraph.render({}, "CPU")
    ElementTree.fromstring(flamegraph.render({}, "CPU"))


def test_a_folded_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "profile.folded"
    path.write_text("".join(f"{stack} {count}\n" for stack, count in STACKS.items()))
    assert flamegraph.read(path) == STACKS
    assert flamegraph.render(path, "CPU") == flamegraph.render(STACKS, "CPU")


@given(
    st.dictionaries(
        st.lists(st.sampled_from(["a", "b", "c_[k]"]), min_size=1, max_size=6).map(";".join),
        st.integers(1, 1000),
        min_size=1,
        max_size=20,
    )
)
def test_children_never_exceed_their_parent(stacks: dict[str, int]) -> None:
    root = ElementTree.fromstring(flamegraph.render(stacks, "CPU"))
    boxes = [tuple(map(float, str(e.get("data-p")).split())) for e in root.findall(f"{SVG}svg")]
    rows: dict[float, list[tuple[float, float]]] = {}
    for left, width, row in boxes:
        rows.setdefault(row, []).append((left, left + width))
    for row, spans in rows.items():
        spans.sort()
        assert all(a[1] <= b[0] + 1e-5 for a, b in itertools.pairwise(spans))
        if row:
            below = rows[row - 1]
            assert all(
                any(p[0] <= s[0] + 1e-5 and s[1] <= p[1] + 1e-5 for p in below) for s in spans
            )
