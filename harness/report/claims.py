"""The table of claims as Markdown and as JSON, from its rows alone; `cli` calls it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from harness.analysis.claimed import QUANTITIES, Answer, Evidence, Figure
from harness.collectors.claim import ABOUT, CheckableClaim
from harness.results.documents import finite

TITLE = "# Claimed and measured"
_HEAD = (
    "Claim", "Source, date", "Conditions there", "Here, with 95 % interval", "Verdict",
    "Run, service, conditions here", "Repeat it",
)  # fmt: skip
_OF_EVIDENCE = ("Run", "Began", "Machine", "Kernel", "harness", "Statistics", "Who")
_ESCAPES = {ord(sign): f"\\{sign}" for sign in "\\`*_[]<>|~#"}
_OF_ADDRESSES = "/:.?=&%#-_~"
_WHO = {"run": "published here", "certificate": "published here", "submission": "submitted"}


def markdown(answers: Sequence[Answer], found: Sequence[Evidence]) -> str:
    """All of reports/published/claims.md."""
    lines = [
        TITLE, "", *_preface(answers), "", _row(_HEAD), _row(["---"] * len(_HEAD)),
        *_claim_rows(answers), "", "## Where ours are from", "", _row(_OF_EVIDENCE),
        _row(["---"] * len(_OF_EVIDENCE)), *(_row(_evidence(each)) for each in found),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def document(answers: Sequence[Answer]) -> dict[str, Any]:
    """The rows for machines."""
    return {"claims": [finite(_told(answer)) for answer in answers]}


def counted(answers: Sequence[Answer]) -> str:
    """How many rows have each verdict, in words."""
    found = Counter(answer.verdict for answer in answers)
    return ", ".join(f"{n} {verdict}" for verdict, n in found.most_common())


def figure(ours: Figure | None) -> str:
    """Our figure with its interval and unit; empty without one."""
    if ours is None:
        return ""
    return f"{_number(ours.estimate)} [{_number(ours.low)}, {_number(ours.high)}] {ours.unit}"


def read_as(claim: CheckableClaim) -> str:
    """The values that a claim is taken to allow."""
    if not claim.quantity:
        return ""
    unit = QUANTITIES[claim.quantity].unit
    least, most = _number(claim.least), _number(claim.most)
    if math.isinf(claim.least):
        return f"at most {most} {unit}"
    return f"at least {least} {unit}" if math.isinf(claim.most) else f"{least} to {most} {unit}"


def _preface(answers: Sequence[Answer]) -> Iterator[str]:
    yield (
        "Made by `harness claims --markdown reports/published/claims.md` from the runs beside it "
        "and from reports/submissions; nobody writes it by hand. "
        "[docs/claims.md](../../docs/claims.md) says how to read and repeat it, and how to add "
        "figures of another machine."
    )
    yield ""
    yield (
        "*Confirmed*: the whole 95 % interval is within what the claim allows; *refuted*: all of "
        "it is outside; *not resolved*: neither. A single figure is taken to allow "
        f"{100 * ABOUT:.0f} % to both sides. A verdict is of our conditions, which are seldom "
        "those of the claim."
    )
    yield ""
    yield f"{len({a.claim.id for a in answers})} claims; rows: {counted(answers)}."
    if any(a.verdict == "not measured yet" for a in answers):
        yield "Where it is not measured yet, the command is what would answer it."


def _claim_rows(answers: Sequence[Answer]) -> Iterator[str]:
    before = ""
    for answer in answers:
        claim = answer.claim
        told = ("", "", "") if claim.id == before else _claimed(claim)
        before = claim.id
        verdict = f"**{answer.verdict}**" + (f": {_safe(answer.why)}" if answer.why else "")
        command = f"`{claim.command}`" if claim.command else ""  # `claim` takes no other text
        yield _row((*told, _safe(figure(answer.figure)), verdict, _where(answer), command))


def _claimed(claim: CheckableClaim) -> tuple[str, str, str]:
    source = _link(claim.source, claim.url) if claim.url else _safe(claim.source)
    allowed = f" (read as {read_as(claim)})" if read_as(claim) else ""
    differs = f"; here: {claim.differs}" if claim.differs else ""
    return (
        f"<a id=\"{claim.id}\"></a>**{_safe(claim.tool)}**: {_safe(claim.text)}{_safe(allowed)}",
        f"{source}, {_safe(claim.date)}", _safe(claim.conditions + differs),
    )  # fmt: skip


def _where(answer: Answer) -> str:
    found = answer.evidence
    if found is None:
        return ""
    told = (answer.workload, answer.collectors.replace("+", " + "), answer.here)
    return ", ".join([_link(found.name, found.link), *(_safe(each) for each in told if each)])


def _evidence(found: Evidence) -> tuple[str, ...]:
    machine = found.machine
    told = (machine.get("cpu_model"), f"{machine.get('cpus_online', '?')} CPUs",
            machine.get("distribution"), machine.get("virtualisation"))  # fmt: skip
    return (
        _link(found.name, found.link), _safe(found.began[:10]),
        _safe(", ".join(str(each) for each in told if each)), _safe(str(machine.get("kernel", ""))),
        _safe(found.version), str(found.statistics or ""), _WHO[found.kind],
    )  # fmt: skip


def _told(answer: Answer) -> dict[str, Any]:
    found = answer.evidence
    return {
        "claim": answer.claim.id, "tool": answer.claim.tool, "text": answer.claim.text,
        "source": answer.claim.source, "url": answer.claim.url, "date": answer.claim.date,
        "conditions": answer.claim.conditions, "differs": answer.claim.differs,
        "read_as": read_as(answer.claim),
        "figure": asdict(answer.figure) if answer.figure else None,
        "verdict": answer.verdict, "why": answer.why,
        "run": found.name if found else None,
        "machine": dict(found.machine) if found else None,
        "version": found.version if found else None,
        "statistics": found.statistics if found else None,
        "workload": answer.workload, "collectors": answer.collectors, "here": answer.here,
        "command": answer.claim.command,
    }  # fmt: skip


def _number(value: float) -> str:
    """Three digits, and no exponent that a reader must think about."""
    if not math.isfinite(value):
        return "unknown"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _link(text: str, where: str) -> str:
    """A link, from which nothing breaks out."""
    return f"[{_safe(text)}]({quote(where, safe=_OF_ADDRESSES)})"


def _safe(text: str) -> str:
    """Text of others within a cell: Markdown shows it as it stands."""
    return " ".join(text.translate(_ESCAPES).split())


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
