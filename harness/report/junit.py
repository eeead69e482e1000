"""JUnit XML of a gate's verdicts, a suite for each workload and a case for each check; for `cli`.

The shape that CI systems agree on: testsuites > testsuite > testcase > failure | skipped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from harness.analysis.verdicts import Verdict
from harness.report import gate as gates
from harness.report import remarks
from harness.report.gate import Gate

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml(gate: Gate) -> str:
    """The document. An inconclusive check is skipped, or what `--inconclusive` makes of it."""
    root = ElementTree.Element("testsuites", {"name": "harness gate"})
    for workload in dict.fromkeys(verdict.workload for verdict in gate.verdicts):
        suite = ElementTree.SubElement(root, "testsuite", {"name": _legal(workload)})
        mine = [verdict for verdict in gate.verdicts if verdict.workload == workload]
        for verdict in mine:
            _case(suite, gate, verdict)
        _count(suite, [suite])
        ElementTree.SubElement(suite, "system-out").text = _legal("\n".join(remarks.of(gate)))
    _count(root, root.findall("testsuite"))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, gate: Gate, verdict: Verdict) -> None:
    _, _, _, name, estimate, interval, limit = gates.cells(verdict)
    # by classname and name a CI system knows a case again: nothing of this run may be in them
    case = ElementTree.SubElement(
        suite, "testcase",
        {
            "classname": _legal(f"{verdict.workload}.{verdict.arm}"),
            "name": _legal(f"{name} {gates.stated(verdict.budget)}"),
            "time": "0",
        },
    )  # fmt: skip
    text = _legal(f"{name}: {estimate} {interval}, budget {limit}. {verdict.sentence}")
    outcome = verdict.outcome
    if outcome == "inconclusive" and gate.inconclusive is not None:
        hides = gate.inconclusive == "pass" and verdict.unmeasured
        outcome = "inconclusive" if hides else gate.inconclusive
    if outcome == "pass":
        ElementTree.SubElement(case, "system-out").text = text
    elif outcome == "fail":
        found = {"message": text, "type": verdict.outcome}
        ElementTree.SubElement(case, "failure", found).text = text
    else:
        ElementTree.SubElement(case, "skipped", {"message": text})


def _count(element: ElementTree.Element, suites: Sequence[ElementTree.Element]) -> None:
    cases = [case for suite in suites for case in suite.findall("testcase")]
    for key, tag in (("failures", "failure"), ("skipped", "skipped")):
        element.set(key, str(sum(case.find(tag) is not None for case in cases)))
    element.set("tests", str(len(cases)))
    element.set("errors", "0")
    element.set("time", "0")


def _legal(text: str) -> str:
    return _ILLEGAL.sub("?", text)
