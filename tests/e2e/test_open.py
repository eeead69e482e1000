"""A page in a cluster that is held open: from Ctrl-C, and from a pod that is replaced."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request
from pathlib import Path

import pytest

from harness.linux import processes
from harness.targets.kubernetes import pages
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.pages import Page
from tests.e2e.evaluating import HARNESS, ROOT
from tests.unit import forwarded
from tests.waiting import until

pytestmark = pytest.mark.e2e
PAGE = Page("Prometheus", "prometheus", 9090, 9090)


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(pages, "LOOK_SECONDS", 0.05)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("notices", [True, False])
def test_another_way_is_opened_when_the_pod_is_gone(
    tmp_path: Path, port: int, notices: bool
) -> None:
    """Also where kubectl goes on, and only closes each connection."""
    ways = forwarded.kubectl(tmp_path, lasts=4, notices=notices)
    heard: list[str] = []

    def tell(said: str) -> None:
        heard.append(said)
        if said == "Prometheus is reached again.":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pages.hold(Cluster("shop", "harness"), PAGE, port, lambda: heard.append("first"), tell)
    assert heard == [
        "first", "Prometheus is not reached any more; it is tried again.",
        "Prometheus is reached again.",
    ]  # fmt: skip
    assert (
        ways.read_text().splitlines()
        == [f"port-forward service/prometheus {port}:9090 --address=127.0.0.1"] * 2
    )
    assert not pages.answers(port, "/")  # what was opened is ended


def test_ctrl_c_ends_it_well_and_leaves_nothing(tmp_path: Path, port: int) -> None:
    ways, log = forwarded.kubectl(tmp_path), tmp_path / "open.log"
    process = processes.spawn(
        [*HARNESS, "open", "prometheus", "--target", "existing", "--no-browser", "--port",
         str(port)],
        log=log, cwd=ROOT,
    )  # fmt: skip
    try:
        assert until(lambda: "until Ctrl-C" in log.read_text())
        url = log.read_text().splitlines()[0]
        assert url == f"http://127.0.0.1:{port}/"
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.read() == b"the page"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        processes.stop(process)
    assert "Error" not in log.read_text()
    assert len(ways.read_text().splitlines()) == 1
    assert not pages.answers(port, "/")
