"""What is written of a gate: JUnit XML, Markdown, JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.analysis import budgets, gates
from harness.analysis.gates import Measured
from harness.report import gate as texts
from harness.report import junit, remarks
from harness.report.gate import Gate
from tests.unit.gated import ROOT, gate, measured, one, row

OTHER = dataclasses.replace(one(3, 4, "latency_p50_us[/a|<b>]", max=2), workload="java")
VERDICTS = (one(3, 4, max=2), one(1, 3, max=2.5), one(0, 1, max=1), OTHER)


@pytest.mark.parametrize(
    ("rule", "failures", "skipped"), [(None, 2, 1), ("pass", 2, 0), ("fail", 3, 0)]
)
def test_junit_has_the_shape_that_ci_systems_read(rule: Any, failures: int, skipped: int) -> None:
    root = ElementTree.fromstring(junit.xml(gate(*VERDICTS, inconclusive=rule)))
    assert root.tag == "testsuites"
    assert [suite.get("name") for suite in root] == ["go", "java"]
    assert (root.get("tests"), root.get("errors")) == ("4", "0")
    assert root.get("failures") == str(failures)
    assert root.get("skipped") == str(skipped)
    for suite in root:
        cases = suite.findall("testcase")
        assert suite.tag == "testsuite"
        assert suite.get("tests") == str(len(cases)) == str(len(list(suite)) - 1)
        assert suite[-1].tag == "system-out"
        assert suite.get("failures") == str(len(suite.findall("testcase/failure")))
        assert suite.get("skipped") == str(len(suite.findall("testcase/skipped")))
        assert len({case.get("name") for case in cases}) == len(cases)
        for case in cases:
            assert case.get("classname") == f"{suite.get('name')}.http"
            assert all(part.tag in ("failure", "skipped", "system-out") for part in case)
    assert {f.get("type") for f in root.iter("failure")} >= {"fail"}


def test_junit_names_a_check_the_same_in_every_run() -> None:
    tables = [
        {"metric": "workload_cpu_percent", "max": 2},
        {"metric": "bpf_us", "max_percent": 1},
        {"metric": "agent_memory_mb", "min": 0, "max": 5, "max_increase": 3},
    ]
    allowed = budgets.from_dict({"budget": tables})

    def names(run: Measured) -> list[tuple[str | None, str | None]]:
        found = Gate(run, gates.judge(run, allowed, run), "budget.toml")
        cases = ElementTree.fromstring(junit.xml(found)).iter("testcase")
        return [(case.get("classname"), case.get("name")) for case in cases]

    level = dataclasses.replace(row(0, 1, "workload_cpu_us"), level=200.0)
    bpf = dataclasses.replace(row(0, 1, "bpf_us"), unit="us/request")
    whole = measured(row(1, 3), level, bpf, row(1, 2, "agent_memory_mb"), name="one")
    assert names(whole) == names(measured(name="another")) == [
        ("go.http", "workload_cpu_percent ≤ 2 %"),
        ("go.http", "bpf_us ≤ 1 %"),
        ("go.http", "agent_memory_mb 0 to 5 MB"),
        ("go.http", f"{texts.DELTA} agent_memory_mb ≤ 3 MB"),
    ]  # fmt: skip


def test_junit_survives_what_xml_does_not_allow() -> None:
    odd = dataclasses.replace(one(3, 4, max=2), sentence="a\x00b\x1b[1m <&>")
    (case,) = ElementTree.fromstring(junit.xml(gate(odd))).iter("failure")
    assert "a?b?[1m <&>" in (case.get("message") or "")


def test_markdown_has_one_table_and_the_worst_first() -> None:
    text = texts.markdown(gate(*VERDICTS, link="https://ci.example.org/7"))
    lines = text.splitlines()
    assert (
        lines[0] == "### ❌ Overhead gate: FAIL: 2 of 4 checks are beyond budget; 1 inconclusive."
    )
    table = [line for line in lines if line.startswith("| ")]
    assert [line[2] for line in table[2:]] == ["❌", "❌", "❔", "✅"]
    cells = [re.split(r"(?<!\\)\|", line) for line in table]
    assert len({len(row) for row in cells}) == 1
    assert r"latency\_p50\_us\[/a\|\<b\>\]" in text
    assert "[report](https://ci.example.org/7)" in text
    assert text.count("<details>") == text.count("</details>") == 1
    assert "at most 10 %" in text


def test_an_inconclusive_verdict_shows_how_it_was_taken() -> None:
    text = texts.markdown(gate(one(1, 3, max=2), inconclusive="pass"))
    assert text.startswith("### ✅ Overhead gate: INCONCLUSIVE, taken as pass: 1 of 1 checks is")


def test_what_the_report_warns_of_is_told_with_the_verdict() -> None:
    run = measured(warnings=tuple(f"warning {n}" for n in range(5)), complete=False)
    said = remarks.of(Gate(run, [one(0, 1, max=2)], "budget.toml"))
    assert "The report warns: warning 2" in said
    assert said[-1] == "It has 2 more warnings."
    assert any("did not end" in sentence for sentence in said)


def test_json_is_finite_and_agrees_with_the_exit_code() -> None:
    found = gate(*VERDICTS, one(math.nan, math.nan, max=2))
    document = json.loads(json.dumps(texts.document(found), allow_nan=False))
    assert document["exit_code"] == 1
    assert document["outcome"] == "fail"
    assert document["verdicts"][0]["most"] == 2
    assert document["verdicts"][0]["least"] is None
    assert document["verdicts"][-1]["low"] is None


def test_json_is_documented() -> None:
    page = (ROOT / "docs/gate.md").read_text()
    document = texts.document(gate(*VERDICTS, stored=measured()))
    names = {*document, *document["verdicts"][0], *document["against"]}
    assert {name for name in names if f"`{name}`" not in page} == set()
