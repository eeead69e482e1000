"""The report in a real browser, from disk: it renders, complains about nothing, fetches nothing."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import pytest

from harness.linux import processes
from harness.report import build
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


@pytest.mark.parametrize("width", [1400, 420])
def test_it_is_drawn(page: Path, tmp_path: Path, width: int) -> None:
    picture = tmp_path / "page.png"
    browse(page, tmp_path / "profile", f"--screenshot={picture}", f"--window-size={width},2400")
    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[:2] == (2400, width)
    for quarter in range(4):  # something stands in each quarter of its height
        assert pixels[600 * quarter : 600 * (quarter + 1), :, :3].std() > 0.02
