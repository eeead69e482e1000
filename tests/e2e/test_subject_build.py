"""OpenTelemetry's tool for Go by a program that stands for it: what it compiles in sends spans.

That says that the definition builds, starts and counts what behaves as its documentation says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.collectors import resolve, subject
from tests.e2e.evaluating import beside_a_service, clean_machine, completed
from tests.unit.documented import strangers

pytestmark = pytest.mark.e2e

# as the real one it takes a command of go's, and changes what is compiled
OTELC = """#!/bin/sh
set -e
mkdir -p .otelc-build
case "$1" in
version) echo "otelc version v1.1.0+0a1b2c3" ;;
go)
    grep -q 'Handler: routes()' main.go
    sed -i 's/Handler: routes()/Handler: traced(routes())/' main.go
    cp {folder}/otelc.runtime.go .
    exec "$@" ;;
*) echo "No help topic for '$1'" >&2; exit 3 ;;
esac
"""
RUNTIME = """
package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

const batch = `{"resourceSpans":[{"scopeSpans":[{"scope":{"name":"SCOPE"},"spans":[%s]}]}]}`
const span = `{"traceId":"%s","spanId":"%s","name":"%s","kind":2,` +
	`"startTimeUnixNano":"%d","endTimeUnixNano":"%d"}`

func traced(next http.Handler) http.Handler {
	var lock sync.Mutex
	var spans []string
	go func() {
		for range time.Tick(200 * time.Millisecond) {
			lock.Lock()
			told := spans
			spans = nil
			lock.Unlock()
			if len(told) == 0 {
				continue
			}
			body := fmt.Sprintf(batch, strings.Join(told, ","))
			url := os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") + "/v1/traces"
			answer, err := http.Post(url, "application/json", bytes.NewBufferString(body))
			if err == nil {
				answer.Body.Close()
			}
		}
	}()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now().UnixNano()
		next.ServeHTTP(w, r)
		one := fmt.Sprintf(span, id(16), id(8), r.Method, begun, time.Now().UnixNano())
		lock.Lock()
		spans = append(spans, one)
		lock.Unlock()
	})
}

func id(length int) string {
	bytes := make([]byte, length)
	rand.Read(bytes)
	return base64.StdEncoding.EncodeToString(bytes)
}
"""


@pytest.fixture(autouse=True)
def machine() -> Iterator[None]:
    yield from clean_machine()


@pytest.fixture
def otelc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of the definition, which awaits what is sent for less long; its tool is on PATH."""
    program = tmp_path / "bin" / "otelc"
    program.parent.mkdir()
    program.write_text(OTELC.replace("{folder}", str(program.parent)))
    program.chmod(0o755)
    scope = resolve("otel-go").scope
    (program.parent / "otelc.runtime.go").write_text(RUNTIME.replace("SCOPE", scope))
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    told = (subject.FOLDER / "otel-go.toml").read_text()
    assert "seconds = 5.0" in told
    (tmp_path / "otel-go.toml").write_text(told.replace("seconds = 5.0", "seconds = 0.5"))
    return str(tmp_path / "otel-go.toml")


def test_what_is_compiled_into_a_service_is_measured_beside_the_service_as_it_is(
    otelc: str, tmp_path: Path
) -> None:
    run = completed(beside_a_service("go", otelc), tmp_path)
    (mine,) = [r for r in run.records() if (r.trial.arm, r.trial.kind) == ("theirs", "switched")]
    assert mine.status == "ok"
    assert set(mine.extra["versions"].values()) == {"otelc 1.1.0+0a1b2c3, on PATH"}
    told = {v.metric: v.value for v in mine.values}
    assert 0.99 * told["signal_made"] < told["signal_seen"] <= told["signal_made"]
    assert {"startup_seconds", "startup_plain_seconds", "plain_heap_bytes"} <= set(told)
    assert strangers(run) == []
    source = Path(__file__).resolve().parents[2] / "workloads" / "go"
    assert "traced" not in (source / "main.go").read_text()
    assert not (source / ".otelc-build").exists()
