"""`harness open`: what it refuses, and where it says that a page is, without a stack."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.cli import app
from harness.stack import ledger
from harness.stack.ledger import Running
from harness.targets.kubernetes import production, rollout
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.kubectl import Cluster
from harness.targets.kubernetes.pages import commands
from tests.unit import forwarded

THERE = ("--target", "existing", "--context", "shop", "--no-browser")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ledger, "DIRECTORY", tmp_path / "run" / "stack")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    return tmp_path


def opened(*words: str) -> Result:
    return CliRunner().invoke(app, ["open", *words])


def refused(*words: str) -> str:
    done = opened(*words)
    assert done.exit_code == 2, done.output
    assert not done.stdout
    assert len(done.stderr.strip().splitlines()) >= 2
    return " ".join(done.stderr.split())


def note(place: Path, *names: str) -> None:
    """A stack of these components, as `up` notes it."""
    ledger.claim(place / "stack", "127.0.0.1")
    for name in names:
        ledger.note(Running(name, "1", 1, f"/cgroup/{name}", "log", ("program",)))


def test_on_this_machine_it_says_where_the_page_is_and_ends(place: Path) -> None:
    note(place, "prometheus", "victorialogs", "otelcol")
    assert opened("prometheus").stdout == "http://127.0.0.1:9090/\n"
    assert opened("victorialogs").stdout == "http://127.0.0.1:9428/select/vmui/\n"


def test_of_a_login_it_says_where_the_password_is_and_never_what(place: Path) -> None:
    note(place, "grafana")
    done = opened("grafana")
    assert done.stdout == "http://127.0.0.1:3000/\n"
    assert f"the password is in {place}/stack/grafana-password" in " ".join(done.stderr.split())


def test_a_browser_is_opened_where_there_is_a_screen_unless_it_is_not_wanted(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(place, "jaeger")
    seen: list[str] = []
    monkeypatch.setattr("webbrowser.open", seen.append)
    assert opened("jaeger").exit_code == 0
    assert not seen
    monkeypatch.setenv("DISPLAY", ":0")
    opened("jaeger", "--no-browser")
    assert not seen
    opened("jaeger")
    assert seen == ["http://127.0.0.1:16686/"]


def test_what_is_not_there_is_called_so_with_the_nearest_name(place: Path) -> None:
    assert "The stack is not up. Start it: harness up." in refused("prometheus")
    note(place, "prometheus", "jaeger", "otelcol")
    assert "It has: prometheus, jaeger. Did you mean prometheus?" in refused("prometeus")
    assert "no page 'grafana'" in refused("grafana")
    assert "no page 'otelcol'" in refused("otelcol")


def test_options_of_clusters_do_not_go_with_this_machine() -> None:
    assert "--port does not go with --target local" in refused("jaeger", "--port", "80")
    assert "--profile does not go" in refused("jaeger", "--profile", "production")


def test_in_a_cluster_a_page_of_another_profile_is_found_there(place: Path) -> None:
    forwarded.kubectl(place)
    said = refused("jaeger", *THERE, "--profile", "production")
    assert "It has: grafana, prometheus." in said
    assert "It is in the profile poc: --profile poc." in said
    assert "Did you mean jaeger?" in refused("jeager", *THERE)


def test_a_cluster_without_the_stack_is_called_so(place: Path) -> None:
    forwarded.kubectl(place, there=False)
    said = refused("prometheus", *THERE)
    assert "The stack is not up: the namespace harness of shop has no service prometheus." in said
    assert "There is no context" in refused("prometheus", *THERE, "--context", "bank")


def test_a_stack_without_grafana_says_how_it_is_added(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwarded.kubectl(place)
    there = Cluster.get
    monkeypatch.setattr(
        Cluster, "get", lambda c, *w: [] if w[:2] == ("service", "grafana") else there(c, *w)
    )
    said = refused("grafana", *THERE)
    assert "The stack in the namespace harness of shop has no Grafana." in said
    assert "with --dashboards grafana." in said


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield int(other.getsockname()[1])


def test_a_port_that_is_taken_is_told_with_another(place: Path, taken: int) -> None:
    ways = forwarded.kubectl(place)
    said = refused("prometheus", *THERE, "--port", str(taken))
    assert f"The port {taken} of 127.0.0.1 cannot be had: Address already in use." in said
    assert "Name another one: --port " in said
    assert not ways.exists()


def test_a_pod_that_cannot_be_reached_at_the_beginning_ends_it_with_its_words(
    place: Path, taken: int
) -> None:
    forwarded.kubectl(place, lasts=0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said = refused("prometheus", *THERE, "--port", str(port))
    assert "Prometheus cannot be reached through the cluster's API." in said
    assert "pod is not running" in said


def test_what_up_says_to_type_leads_to_each_page() -> None:
    cluster = Cluster("shop", "harness")
    told = commands(cluster, rollout.pages_of(Options("existing")))
    assert told["Prometheus"] == (
        "kubectl --context=shop -n harness port-forward service/prometheus 9090"
        "  # http://127.0.0.1:9090"
    )
    assert told["Grafana's password"] == (
        "kubectl --context=shop -n harness get secret grafana "
        "-o jsonpath={.data.grafana-password} | base64 -d"
    )
    told = commands(cluster, production.PAGES)
    assert list(told) == ["Grafana", "Grafana's password", "Prometheus"]
    assert told["Grafana"].endswith(
        "monitoring-grafana 3000:80  # http://127.0.0.1:3000, user admin"
    )
    assert told["Grafana's password"] == (
        "kubectl --context=shop -n harness get secret grafana-admin "
        "-o jsonpath={.data.admin-password} | base64 -d"
    )
