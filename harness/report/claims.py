"""The table of claims as Markdown and as JSON, from its rows alone; `cli` calls it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from harness.analysis.claimed import NOT_YET, QUANTITIES, Answer, Evidence, Figure
from harness.collectors.claim import ABOUT, CheckableClaim
from harness.results.documents import finite

TITLE = "# Claimed and measured"
MIXED = "with verdicts that differ by run or service"
_HEAD = (
    "Claim", "Source, date", "Conditions there", "Here, with 95 % interval", "Verdict",
    "Run, service, conditions here", "Repeat it",
)  # fmt: skip
_OPEN = ("Claim", "Source, date", "Conditions there", "Measure it")
_OF_EVIDENCE = ("Run", "Began", "Machine", "Kernel", "harness", "Statistics", "Who")
_ESCAPES = {ord(sign): f"\\{sign}" for sign in "\\`*_[]<>|~#"}
_OF_ADDRESSES = "/:.?=&%#-_~"
_BREAKS_OUT = re.compile(r"[`|\n]")  # of a span of code in a table
_WHO = {"run": "published here", "certificate": "published here", "submission": "submitted"}


def markdown(answers: Sequence[Answer], found: Sequence[Evidence]) -> str:
    """All of reports/published/claims.md: what has figures first, what never will have any last."""
    answered, unmeasured, rest = grouped(answers)
    lines = [
        TITLE, "", *_preface(answers), "", "## Answered", "", *_table(_HEAD, _answered(answered)),
        "", "## Not measured yet", "", "The command is what would answer it.", "",
        *_table(_OPEN, (_unmeasured(each.claim) for each in unmeasured)),
        "", "## Nothing here answers them", "", *map(_unanswered, rest),
        "", "## Where ours are from", "", *_table(_OF_EVIDENCE, map(_evidence, found)),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def grouped(answers: Sequence[Answer]) -> tuple[list[Answer], list[Answer], list[Answer]]:
    """Those that have figures, those that a command would answer, and those that nothing does."""
    answered = [each for each in answers if each.evidence is not None]
    unmeasured = [each for each in answers if each.verdict == NOT_YET]
    rest = [each for each in answers if each.evidence is None and each.verdict != NOT_YET]
    return answered, unmeasured, rest


def document(answers: Sequence[Answer]) -> dict[str, Any]:
    """The rows for machines."""
    return {"claims": [finite(_told(answer)) for answer in answers]}


def counted(answers: Sequence[Answer]) -> str:
    """How many claims have each verdict, in words; those of which the rows differ by themselves."""
    verdicts: dict[str, set[str]] = {}
    for answer in answers:
        verdicts.setdefault(answer.claim.id, set()).add(answer.verdict)
    found = Counter(next(iter(each)) if len(each) == 1 else MIXED for each in verdicts.values())
    return ", ".join(f"{n} {verdict}" for verdict, n in found.most_common())


def reason(answer: Answer) -> str:
    """Why the verdict is what it is, and what is different here; empty if nothing is to be said."""
    differs = answer.claim.differs if answer.evidence is not None else ""
    return "; ".join(filter(None, (answer.why, f"differs: {differs}" if differs else "")))


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
        "it is outside; *less than claimed*: of a cost, all of it is below; *not resolved*: none "
        "of these. A goal is *met* or *not met*. What stands in for the claim's own program or "
        "machine is *within it here* or *beyond it here*, which says nothing of these. A single "
        f"figure is taken to allow {100 * ABOUT:.0f} % to both sides. A verdict is of our "
        "conditions, which are seldom those of the claim."
    )
    yield ""
    yield f"{len({a.claim.id for a in answers})} claims: {counted(answers)}."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _row(head)
    yield _row(["---"] * len(head))
    yield from map(_row, rows)


def _answered(answers: Sequence[Answer]) -> Iterator[tuple[str, ...]]:
    before = ""
    for answer in answers:
        claim = answer.claim
        told = ("", "", "") if claim.id == before else _claimed(claim)
        before = claim.id
        verdict = f"**{answer.verdict}**" + (f": {_safe(answer.why)}" if answer.why else "")
        here = _safe(figure(answer.figure))
        yield (*told, here, verdict, _where(answer), _code(repeated(answer)))


def _unmeasured(claim: CheckableClaim) -> tuple[str, ...]:
    return (*_claimed(claim), _code(claim.command))


def _unanswered(answer: Answer) -> str:
    claim = answer.claim
    told, source, _ = _claimed(claim)
    return f"- {told} ({source}): **{answer.verdict}**, {_safe(answer.why).rstrip('.')}."


def repeated(answer: Answer) -> str:
    """What measures it again: the command of the run that answers it, if that is told."""
    told = answer.evidence.command if answer.evidence else ""
    return told if told and not _BREAKS_OUT.search(told) else answer.claim.command


def _code(command: str) -> str:
    return f"`{command}`" if command else ""  # `claim` takes none that breaks out


def _claimed(claim: CheckableClaim) -> tuple[str, str, str]:
    source = _link(claim.source, claim.url) if claim.url else _safe(claim.source)
    allowed = f" (read as {_safe(read_as(claim))})" if read_as(claim) else ""
    differs = f"; here: {claim.differs}" if claim.differs else ""
    return (
        f"<a id=\"{claim.id}\"></a>**{_safe(claim.tool)}**: {_safe(claim.text)}{allowed}",
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
        "claim": answer.claim.id, "kind": answer.claim.kind, "tool": answer.claim.tool,
        "text": answer.claim.text,
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
        "command": repeated(answer),
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
