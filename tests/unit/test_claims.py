"""Claims, verdicts on them, and the published table, which is what runs and claims make today."""

from __future__ import annotations

import json
import math
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.analysis import claimed
from harness.analysis.claimed import QUANTITIES, Evidence
from harness.cli import app, screen
from harness.collectors import REGISTRY, claim, subject
from harness.collectors.claim import CheckableClaim
from harness.errors import InputError
from harness.model import Comparison
from harness.report import claims as texts
from harness.report import evidence

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs/claims.md"
CLAIM = CheckableClaim(
    "c", "Mine", "< 1 %", "somebody", "2026", "none", quantity="service_cpu_percent",
    collectors=("http",), command="harness evaluate quick", most=1.0,
)  # fmt: skip


def row(low: float, high: float, arm: str = "http", **changes: Any) -> Comparison:
    told: dict[str, Any] = {
        "metric": "workload_cpu_percent", "unit": "%", "n": 100, "mde": 1.0, "level": 100.0,
        "method": "made up", **changes,
    }  # fmt: skip
    return Comparison("go", arm, estimate=(low + high) / 2, low=low, high=high, **told)


def run(*rows: Comparison, **changes: Any) -> Evidence:
    arms = {"baseline": ("", "switch"), "http": ("http", "switch")}
    found = Evidence(
        "r", "r/report.md", "run", "2026-11-26", "0.1.0", 3, "kind",
        {"cpus_online": 2, "kernel": "6.18"}, arms, rows, rates={"go": 2500.0},
    )  # fmt: skip
    return replace(found, **changes)


def verdict(found: Evidence, said: CheckableClaim = CLAIM) -> tuple[str, str]:
    (answer,) = claimed.answers(said, [found], {})
    return answer.verdict, answer.why


def test_the_published_table_is_what_is_made_today() -> None:
    """If not: harness claims --markdown reports/published/claims.md."""
    found = evidence.kept(ROOT / "reports")
    rows = claimed.table(claim.load(), found, evidence.unobtainable())
    assert (ROOT / "reports/published/claims.md").read_text() == texts.markdown(rows, found)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.1, 0.9, "confirmed"), (1.1, 1.9, "refuted"), (0.5, 1.5, "not resolved")],
)
def test_a_verdict_is_of_the_whole_interval(low: float, high: float, expected: str) -> None:
    assert verdict(run(row(low, high))) == (expected, "")


@pytest.mark.parametrize(
    ("told", "expected"),
    [("harness evaluate standard", "harness evaluate standard"), ("", CLAIM.command),
     ("harness evaluate `x`", CLAIM.command), ("harness evaluate a|b", CLAIM.command)],
)  # fmt: skip
def test_a_figure_is_repeated_by_the_command_of_its_run(told: str, expected: str) -> None:
    found = run(row(0.1, 0.9), command=told)
    (answer,) = claimed.answers(CLAIM, [found], {})
    assert f"| `{expected}` |" in texts.markdown([answer], [found])
    assert texts.document([answer])["claims"][0]["command"] == expected


def test_a_figure_that_decides_nothing_is_not_resolved() -> None:
    good, at = row(0.1, 0.9), frozenset({("go", "http")})
    assert "not complete" in verdict(run(good, complete=False))[1]
    assert "no events" in verdict(run(good, silent=at))[1]
    assert "answered worse" in verdict(run(good, harmed=at))[1]
    assert "a range" in verdict(run(row(0.1, 0.9, method="mean and range over trials")))[1]
    blind = row(10, 20, metric="coverage_percent[requests]")
    assert verdict(run(good, blind)) == ("not resolved", "it told 15 % of the requests")
    assert "not zero" in verdict(run(good, row(2.0, 2.1, "baseline", p=0.001)))[1]
    assert verdict(run(good, row(-1.0, 1.0, "baseline", p=0.5)))[0] == "confirmed"
    open_ended = verdict(run(row(math.nan, math.nan)))
    assert open_ended == ("not resolved", "it has no finite interval")


@pytest.mark.parametrize(
    ("kind", "high", "expected"),
    [
        ("goal", 0.9, "met"), ("goal", 1.9, "not met"), ("stand-in", 0.9, "within it here"),
        ("stand-in", 1.9, "beyond it here"),
    ],
)  # fmt: skip
def test_a_goal_and_what_stands_in_have_words_of_their_own(
    kind: claim.Kind, high: float, expected: str
) -> None:
    assert verdict(run(row(high - 0.1, high)), replace(CLAIM, kind=kind))[0] == expected


def test_a_cost_below_what_is_claimed_is_less_and_not_refuted() -> None:
    about = replace(CLAIM, least=4.0, most=6.0)
    assert verdict(run(row(1.0, 2.0)), about)[0] == "less than claimed"
    assert verdict(run(row(7.0, 8.0)), about)[0] == "refuted"
    assert verdict(run(row(1.0, 2.0)), replace(about, most=math.inf))[0] == "refuted"
    told = row(1.0, 2.0, metric="coverage_percent[requests]")
    assert verdict(run(told), replace(about, quantity="coverage_percent"))[0] == "refuted"


def test_a_part_of_the_cost_says_which_as_a_gate_does() -> None:
    said = replace(CLAIM, quantity="bill_percent")
    of = "of the part that was metered: "
    bill = row(0.1, 0.9, metric="bill_percent")
    outcome, why = verdict(run(bill), said)
    assert outcome == "confirmed"
    assert why.startswith(f"{of}entry to the programs, and what")
    entered = replace(bill, method="bpf_us + entry_us")
    assert verdict(run(entered), said)[1].startswith(f"{of}what the programs make others pay")
    assert verdict(run(row(2.0, 3.0, metric="bill_percent")), said) == ("refuted", "")


def test_claims_are_counted_and_not_their_rows() -> None:
    twice = run(row(0.1, 0.9)), run(row(0.2, 0.8))
    differing = run(row(0.1, 0.9)), run(row(1.1, 1.9))
    other = replace(CLAIM, id="d")
    answers = [*claimed.answers(CLAIM, twice, {}), *claimed.answers(other, differing, {})]
    assert texts.counted(answers) == f"1 confirmed, 1 {texts.MIXED}"


def test_answers_come_first_and_what_nothing_answers_is_a_list() -> None:
    never = replace(CLAIM, id="n", quantity="", unanswerable="a price.")
    open_ = replace(CLAIM, id="o", collectors=("guard",))
    found = [run(row(0.1, 0.9))]
    made = texts.markdown(claimed.table([never, open_, CLAIM], found, {}), found)
    places = [made.index(f'<a id="{name}"></a>') for name in ("c", "o", "n")]
    assert places == sorted(places)
    assert "**no figure answers it**, a price.\n" in made
    assert made.count("no published run has it") == 0


def test_nothing_is_invented_where_no_run_is() -> None:
    (none,) = claimed.answers(CLAIM, [], {})
    assert (none.verdict, none.figure) == ("not measured yet", None)
    (other,) = claimed.answers(CLAIM, [run(row(0.1, 0.9), arms={"x": ("flows", "switch")})], {})
    assert other.verdict == "not measured yet"
    (java,) = claimed.answers(replace(CLAIM, workloads=("java",)), [run(row(0.1, 0.9))], {})
    assert java.verdict == "not measured yet"
    (never,) = claimed.answers(CLAIM, [], {"http": "It is sold."})
    assert (never.verdict, never.why) == ("not obtainable here", "It is sold.")


def test_what_others_wrote_breaks_out_of_no_cell() -> None:
    bad = "[x](y) | <b>`*_~#\\\n## Z"
    said = replace(CLAIM, tool=bad, text=bad, source=bad, date=bad, conditions=bad, differs=bad)
    arms = {"http": ("http", bad)}
    found = run(
        row(0.1, 0.9), name=bad, link=f"../{bad}", version=bad, target=bad, arms=arms,
        machine={"cpu_model": bad, "kernel": bad, "cpus_online": 2},
    )  # fmt: skip
    answers = claimed.answers(said, [found], {})
    assert answers[0].evidence
    made = texts.markdown([replace(answers[0], why=bad, workload=bad)], [found])
    assert "## Z" not in made
    tables = [line for line in made.splitlines() if line.startswith("|")]
    assert {len(re.split(r"(?<!\\)\|", line)) - 2 for line in tables} == {4, 7}
    plain = re.sub(r"\\[\\`*_\[\]<>|~#]", "", made)
    assert "(y)" in plain
    assert "](y)" not in plain
    assert "<b>" not in plain


def test_units_and_conditions_are_those_of_the_claim() -> None:
    said = replace(CLAIM, quantity="agent_cpu_percent")
    (found,) = claimed.answers(said, [run(row(1.0, 3.0, metric="agent_us"))], {})
    assert found.figure is not None
    assert texts.figure(found.figure) == "0.5 [0.25, 0.75] % of a core"
    assert found.here == "2 CPUs, one machine, 2,500 requests/s, target kind"


def test_requests_in_metrics_and_a_sample_of_spans_are_no_trace_of_each_request() -> None:
    said = replace(
        CLAIM, quantity="trace_coverage_percent", least=95.0, most=math.inf,
        collectors=("http", "http:sample=1", "otel-python"),
    )  # fmt: skip
    rows = [row(99, 100, metric=f"coverage_percent[{what}]") for what in ("requests", "spans")]

    def told(collectors: str, *rows: Comparison) -> str:
        return verdict(run(*rows, arms={"http": (collectors, "switch")}), said)[0]

    assert told("http", *rows) == "not measured yet"
    assert told("http:sample=1", rows[0]) == "not measured yet"
    assert told("http:sample=1", *rows) == "confirmed"
    assert told("otel-python", *rows) == "not measured yet"
    spans = row(99, 100, metric="coverage_percent[server_spans]")
    assert told("otel-python", spans) == "confirmed"


@pytest.mark.parametrize("each", claim.load(), ids=lambda each: each.id)
def test_a_claim_can_be_looked_up_and_answered_or_says_why_not(each: CheckableClaim) -> None:
    assert each.source
    assert each.date
    assert each.conditions
    if each.unanswerable:
        return
    known = {*REGISTRY, *subject.names(), "entry"}
    specs = {spec for alternative in each.collectors for spec in alternative.split("+")}
    assert {spec.partition(":")[0] for spec in specs} <= known
    assert each.quantity in QUANTITIES
    assert each.command.startswith("harness ")
    assert each.least < each.most


def test_each_subject_that_claims_are_made_of_is_in_the_table() -> None:
    tools = {name for each in claim.load() for name in each.collectors}
    told = {name for name in subject.names() if subject.load(name).claims}
    assert told - tools <= {"bpftrace", "py-spy"}  # unit costs, and words without a figure


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"at_most": None}, "it needs one of"),
        ({"about": 1}, "it needs one of"),
        ({"at_most": "much"}, "at_most cannot be"),
        ({"colour": "red"}, "unknown keys: colour"),
        ({"source": ""}, "it lacks source"),
        ({"id": "a|b"}, "id cannot be"),
        ({"url": "javascript:x"}, "url cannot be"),
        ({"kind": "rumour"}, "kind cannot be"),
        ({"command": "harness `x`"}, "command cannot be"),
        ({"command": ""}, "it lacks command"),
        ({"unanswerable": "a price"}, "it cannot be answered, and says at_most"),
    ],
)
def test_a_claim_that_cannot_be_used_is_told(
    change: dict[str, Any], what: str, tmp_path: Path
) -> None:
    table = {key: value for key, value in {**_shown(), **change}.items() if value is not None}
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    (tmp_path / "x.toml").write_text("\n".join(["[[claims]]", *lines]))
    with pytest.raises(InputError, match=re.escape(what)):
        claim.load(tmp_path)


def _shown() -> dict[str, Any]:
    text = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.S)[0]
    (table,) = tomllib.loads(text)["claims"]
    return dict(table)


def test_the_claim_that_the_docs_show_can_be_used(tmp_path: Path) -> None:
    text = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.S)[0]
    (tmp_path / "x.toml").write_text(text)
    (found,) = claim.load(tmp_path)
    assert found.collectors == ("http", "flows+http")
    assert texts.read_as(found) == "at most 1 %"


def test_the_docs_tell_every_quantity_and_verdict() -> None:
    page = DOCS.read_text()
    for name in QUANTITIES:
        assert f"`{name}`" in page or f"`[{name.partition('[')[2]}`" in page, name
    for each in claimed.Verdict.__args__:  # type: ignore[attr-defined]
        assert f"| {each} |" in page


def test_a_folder_that_is_named_and_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where there is no folder of that name by default, either
    done = CliRunner().invoke(app, ["claims", "--reports", "nowhere"])
    assert done.exit_code == 2
    assert "There is no folder nowhere." in done.output
    assert CliRunner().invoke(app, ["claims"]).exit_code == 0


def test_the_commands_that_the_docs_show_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    block = re.findall(r"```sh\n(.*?)```", DOCS.read_text(), re.S)[0]
    lines = block.strip().splitlines()
    assert len(lines) == 4
    for line in lines:
        words = line.split()[1:]
        if "--markdown" in words:
            words[-1] = str(tmp_path / "claims.md")
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
    made = (tmp_path / "claims.md").read_text()
    assert made == (ROOT / "reports/published/claims.md").read_text()


@pytest.mark.parametrize("more", [(), ("--all",)])
def test_the_terminal_has_answers_first_and_the_rest_if_asked(more: tuple[str, ...]) -> None:
    said = CliRunner().invoke(app, ["claims", "--reports", str(ROOT / "reports"), *more]).output
    place = [said.find(each) for each in ("Datadog: +249 %", "BPF: kprobe +137 ns", "OBI: +60 %")]
    assert place[:2] == sorted(place[:2])
    assert -1 not in place[:2]
    assert (place[2] > place[1]) if more else place[2] == -1
    assert ("--all says why" in said) is not bool(more)


def test_reports_print_the_claims_that_name_a_collector() -> None:
    """They stand nowhere else: each collector that ships has its own from here."""
    for name in ("http", "flows", "profile", "guard"):
        assert REGISTRY[name].claims == claim.printed_beside(name) != ()
    named = {name for each in claim.load() for name in each.beside}
    assert named <= {*REGISTRY, *subject.names()}
    (first, *_) = claim.printed_beside("http")
    assert first.text.startswith("Beyla: +43 % CPU")
    assert "EKS" in first.source


def test_the_terminal_says_why_and_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(screen.out, "_width", 1000)  # so that nothing is wrapped
    done = CliRunner().invoke(app, ["claims"])
    assert done.exit_code == 0, done.output
    assert "no published run has it" in done.output
    assert "differs: the four included collectors together" in done.output


def test_a_claim_of_a_quantity_that_no_report_has_is_told() -> None:
    with pytest.raises(InputError, match="which no report has"):
        claimed.answers(replace(CLAIM, quantity="beauty"), [], {})


def test_what_is_no_run_and_no_report_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere cannot be read\. No such file or directory\."):
        evidence.read(tmp_path / "nowhere")
    (tmp_path / "report.json").write_text("figures")
    with pytest.raises(InputError, match=r"It is no report: there is no JSON in it\."):
        evidence.read(tmp_path)
