"""The report in a real browser, from disk: it renders, complains about nothing, fetches nothing."""

from __future__ import annotations

import html
import json
import re
import shutil
import zlib
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import pytest

from harness.linux import processes
from harness.report import build, flamegraph
from tests.unit import synthetic

pytestmark = pytest.mark.e2e

BROWSER = next(filter(shutil.which, ("chromium", "chromium-browser", "google-chrome")), "")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--enable-logging=stderr",
)  # fmt: skip
SHAPE = synthetic.experiment(workloads=("go", "flask"), switched_seconds=4.0)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not BROWSER:
        pytest.skip("chromium is not installed")
    run = synthetic.write(tmp_path_factory.mktemp("runs") / "run", SHAPE)
    return build.build(run).html


def browse(page: Path, profile: Path, *flags: str) -> processes.Completed:
    argv = [BROWSER, *QUIET, f"--user-data-dir={profile}", *flags, page.as_uri()]
    return processes.run(argv, timeout=180)


class Rows(HTMLParser):
    """Collects the headline table's rows and how many cells each has."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: dict[str, int] = {}
        self._row = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self._row = dict(attrs).get("data-row") or ""
        elif tag in ("td", "th") and self._row:
            self.cells[self._row] = self.cells.get(self._row, 0) + 1


def test_every_row_is_there_and_the_console_is_silent(page: Path, tmp_path: Path) -> None:
    done = browse(page, tmp_path / "profile", "--dump-dom")
    rows = Rows()
    rows.feed(done.stdout)
    arms = [arm.name for arm in SHAPE.arms]
    assert rows.cells == {f"{w}/{arm}": 8 for w in SHAPE.workloads for arm in arms}
    assert done.stdout.count("<figure>") == 6 * len(SHAPE.workloads)
    assert not re.findall(r".*CONSOLE.*", done.stderr)


def test_what_a_page_would_fetch_is_refused_aloud(page: Path, tmp_path: Path) -> None:
    """The page forbids requests to its browser, and the test above would see one."""
    spoiled = tmp_path / "spoiled.html"
    image = '<img src="http://127.0.0.1:9/x.png">'
    spoiled.write_text(page.read_text().replace("</main>", f"{image}</main>"))
    done = browse(spoiled, tmp_path / "profile", "--dump-dom")
    assert "Content Security Policy" in "".join(re.findall(r".*CONSOLE.*", done.stderr))


PROBE = """<script>addEventListener("load", () => {
  const wide = [...document.querySelectorAll(".scroll, pre, figure, nav ul")]
    .filter(each => each.scrollWidth > each.clientWidth + 1)
    .map(each => `${(each.querySelector("caption") || each).textContent.trim().slice(0, 60)}: `
      + `${each.scrollWidth} of ${each.clientWidth}`);
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth + 1) wide.push(`the page: ${page.scrollWidth}`);
  document.body.dataset.wide = JSON.stringify(wide);
})</script></body>"""


@pytest.mark.parametrize(
    ("width", "medium"),
    [(width, "(prefers-color-scheme: dark)") for width in (1400, 1024, 821, 800)]
    + [(718, "print")],  # a sheet of A4 in its margins
)
def test_nothing_lies_beyond_a_screen_or_a_sheet_of_paper(
    page: Path, tmp_path: Path, width: int, medium: str
) -> None:
    """Columns that one has to scroll to are not seen, and on paper they are not there."""
    text = page.read_text().replace("<details>", "<details open>")
    assert f"@media {medium}" in text
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace(f"@media {medium}", "@media all").replace("</body>", PROBE))
    done = browse(probed, tmp_path / "profile", "--dump-dom", f"--window-size={width},1200")
    (found,) = re.findall(r'data-wide="(.*?)"', done.stdout)
    assert json.loads(html.unescape(found)) == []


def test_columns_that_do_not_stand_side_by_side_are_named_in_each_cell(page: Path) -> None:
    (life, *_) = re.findall(
        r'<table class="details many[^"]*">\s*<caption>Attaching.*?</table>',
        page.read_text(), re.DOTALL,
    )  # fmt: skip
    names = re.findall(r'<th scope="col">([^<]+)', life)
    assert len(names) > 8
    for row in life.split("<tr>")[2:]:
        assert re.findall(r'<td [^>]*data-name="([^"]*)"', row) == names


def test_an_interval_stands_on_one_line(page: Path) -> None:
    cells = "".join(re.findall(r"<td .*?</td>", page.read_text()))
    intervals = re.findall(r"\[[^\]<]*, [^\]<]*\]", cells)
    assert intervals == []
    assert re.search(r"\[[^\]<]*,\N{NO-BREAK SPACE}[^\]<]*\]", cells)


@pytest.mark.parametrize("width", [1400, 420])
def test_it_is_drawn(page: Path, tmp_path: Path, width: int) -> None:
    picture = tmp_path / "page.png"
    browse(page, tmp_path / "profile", f"--screenshot={picture}", f"--window-size={width},2400")
    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[:2] == (2400, width)
    for quarter in range(4):  # something stands in each quarter of its height
        assert pixels[600 * quarter : 600 * (quarter + 1), :, :3].std() > 0.02


def printed(page: Path, tmp_path: Path) -> tuple[int, int]:
    """On how many sheets of paper a page comes out, and how many letters stand on them."""
    pdf = tmp_path / f"{page.stem}.pdf"
    browse(page, tmp_path / "profile", f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    data = pdf.read_bytes()
    drawn = b""
    for packed in re.findall(rb"stream\r?\n(.*?)endstream", data, re.DOTALL):
        with suppress(zlib.error):  # a picture, a font
            drawn += zlib.decompressobj().decompress(packed)
    letters = sum(len(each) // 4 for each in re.findall(rb"<([0-9A-Fa-f]{4,})>\s*T[jJ]", drawn))
    return len(re.findall(rb"/Type\s*/Page\b", data)), letters


def test_what_is_folded_is_on_paper(page: Path, tmp_path: Path) -> None:
    """As much as if all of it were open; a sheet of paper cannot be clicked on."""
    text = page.read_text()
    assert text.count("<details>") > 6
    opened, without = tmp_path / "opened.html", tmp_path / "without.html"
    opened.write_text(text.replace("<details>", "<details open>"))
    without.write_text(re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL))
    sheets, letters = printed(page, tmp_path)
    assert (sheets, letters) == printed(opened, tmp_path)
    assert letters > printed(without, tmp_path)[1] + 1000


JUMPS = """<script>addEventListener("load", () => setTimeout(() => {
  const links = [...document.querySelectorAll('a[href^="#"]')].map(each => each.hash.slice(1));
  const named = name => document.querySelectorAll(`[id="${name}"]`);
  const lost = links.filter(name => named(name).length !== 1);
  const at = document.getElementById(location.hash.slice(1)).getBoundingClientRect();
  const seen = at.height > 0 && at.top >= -1 && at.top < innerHeight;
  document.body.dataset.jumps = JSON.stringify([lost, links.length, seen, scrollY > 0]);
}, 2000))</script></body>"""


@pytest.mark.parametrize("aim", ["again", "method"])
def test_each_jump_leads_to_what_it_names(page: Path, tmp_path: Path, aim: str) -> None:
    probed = tmp_path / "probed.html"
    text = page.read_text().replace("scroll-behavior: smooth", "scroll-behavior: auto")
    probed.write_text(text.replace("</body>", JUMPS))
    argv = [BROWSER, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    argv += ["--virtual-time-budget=10000"]  # the browser scrolls after the page is there
    done = processes.run([*argv, f"{probed.as_uri()}#{aim}"], timeout=180)
    (found,) = re.findall(r'data-jumps="(.*?)"', done.stdout)
    lost, links, seen, scrolled = json.loads(html.unescape(found))
    assert lost == []
    assert links > 10
    assert seen
    assert scrolled


FLAMES = """<script>addEventListener("load", () => {
  const frames = [...document.querySelectorAll(".flame .f")];
  const name = each => each.querySelector("title").textContent.split(":")[0];
  const shown = () => frames.filter(each => each.style.display !== "none").map(name).sort();
  const click = what => frames.find(each => name(each) === what).dispatchEvent(new Event("click"));
  const seen = [shown()];
  for (const what of ["parse", "all"]) {
    click(what);
    seen.push(shown());
  }
  document.body.dataset.seen = JSON.stringify(seen);
})</script></body>"""


def test_a_frame_of_a_flame_graph_is_named_and_enlarged(page: Path, tmp_path: Path) -> None:
    """A frame says what it is when one points at it, and fills the width when it is chosen."""
    stacks = {"serve;parse;read": 30, "serve;answer": 60, "wait": 10}
    drawn = tmp_path / "flames.html"
    drawn.write_text(f"<body>{flamegraph.render(stacks, 'samples')}{FLAMES}")
    done = browse(drawn, tmp_path / "profile", "--dump-dom")
    (found,) = re.findall(r'data-seen="(.*?)"', done.stdout)
    before, chosen, after = json.loads(html.unescape(found))
    assert before == after == ["all", "answer", "parse", "read", "serve", "wait"]
    assert chosen == ["all", "parse", "read", "serve"]
