"""Agents that send to somebody else's backends: what the chart makes of it, and whom they trust."""

from __future__ import annotations

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.agent.errors import UnansweredError
from harness.agent.otlp import Exporter
from harness.linux import processes
from harness.targets.kubernetes import external, values
from harness.targets.kubernetes import helm as product
from harness.targets.kubernetes.external import External

pytestmark = pytest.mark.cluster


def rendered(helm: str, folder: Path, own: External) -> list[dict[str, Any]]:
    made = values.values(external.stack(own), "localhost/node:1", of_agents=external.agents(own))
    file = folder / "values.json"
    file.write_text(json.dumps(made))
    argv = [helm, "template", "harness", str(product.CHART), "--kube-version=1.34.4"]
    done = processes.run([*argv, f"--values={file}"])
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def environment(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return {each["name"]: each for each in agents(objects)["env"]}


def agents(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (daemonset,) = (each for each in objects if each["kind"] == "DaemonSet")
    (container,) = daemonset["spec"]["template"]["spec"]["containers"]
    return dict(container)


def test_it_has_agents_services_and_load_and_nobody_reads_pods(helm: str, tmp_path: Path) -> None:
    found = rendered(helm, tmp_path, External("http://otelcol.telemetry:4318"))
    kinds = ("Deployment", "DaemonSet")
    made = {each["metadata"]["name"] for each in found if each["kind"] in kinds}
    assert made == {"agents", "flask", "go", "load"}
    assert not [each for each in found if each["kind"] in ("Secret", "ClusterRole")]
    said = [each for each in agents(found)["args"] if each.startswith("--otlp")]
    assert said == ["--otlp=http://otelcol.telemetry:4318"]
    assert "OTEL_EXPORTER_OTLP_HEADERS" not in environment(found)
    assert "otlp" not in {each["name"] for each in agents(found)["volumeMounts"]}


def test_what_is_sent_with_a_post_is_read_from_a_secret(helm: str, tmp_path: Path) -> None:
    found = rendered(helm, tmp_path, External("https://otlp.example", secret="key"))
    assert environment(found)["OTEL_EXPORTER_OTLP_HEADERS"] == {
        "name": "OTEL_EXPORTER_OTLP_HEADERS",
        "valueFrom": {"secretKeyRef": {"name": "key", "key": "headers", "optional": True}},
    }
    (mount,) = (each for each in agents(found)["volumeMounts"] if each["name"] == "otlp")
    assert mount == {"name": "otlp", "mountPath": "/etc/otlp", "readOnly": True}


class Taking(BaseHTTPRequestHandler):
    """A receiver that takes whatever is posted."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def test_an_agent_trusts_who_issued_a_receivers_certificate_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, authority = tmp_path / "key.pem", tmp_path / "ca.crt"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=x",
    ]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(authority)]
    processes.run(made)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Taking) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{server.server_port}"
        stranger = Exporter(url)
        with pytest.raises(UnansweredError, match="CERTIFICATE_VERIFY_FAILED"):
            stranger.send_logs([])
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(authority))
        trusting = Exporter(url)
        assert trusting.send_logs([]) == 0
        trusting.close()
        stranger.close()
        server.shutdown()
