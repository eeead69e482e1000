"""The rule file, without Prometheus: every alert says what it is and what to do about it."""

from __future__ import annotations

import json

from harness.stack import rules


def test_it_is_a_file_of_two_groups() -> None:
    tree = rules.rules()
    assert json.loads(json.dumps(tree)) == tree
    assert [group["name"] for group in tree["groups"]] == ["harness-recordings", "harness-alerts"]


def test_every_alert_can_be_told_apart_and_acted_on() -> None:
    seen = set()
    for alert in rules.alerts():
        identity = alert.name, alert.labels
        assert identity not in seen
        seen.add(identity)
        tree = alert.tree()
        assert tree["labels"]["severity"] in ("warning", "critical")
        assert "{{ $labels." in tree["annotations"]["summary"] or "{{ $value" in alert.summary
        for key in ("description", "runbook"):
            assert tree["annotations"][key].endswith(".")
            assert "{{" not in tree["annotations"][key]  # only a summary is filled in


def test_each_signal_of_the_collector_is_watched() -> None:
    watched = {(alert.name, dict(alert.labels).get("signal")) for alert in rules.alerts()}
    for signal in rules.SIGNALS:
        assert {("CollectorRefuses", signal), ("CollectorDrops", signal)} <= watched


def test_limits_are_in_the_expressions() -> None:
    expressions = " ".join(alert.expr for alert in rules.alerts())
    for limit in (rules.ERROR_RATIO, rules.AGENT_CORES, rules.BILL_PERCENT, rules.QUEUE_RATIO):
        assert f"> {limit}" in expressions
