"""Budget files: what they may hold, and how a bad one is told."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from harness.analysis import budgets
from harness.errors import InputError


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "must consist of [[budget]] tables; it has none"),
        ({"budget": {"metric": "bpf_us"}}, "must consist of [[budget]] tables"),
        ({"budgets": []}, "it has budgets"),
        ({"budget": [3]}, "Budget 1 of the budget is not a table"),
        ({"budget": [{"max": 1}]}, "names no metric"),
        ({"budget": [{"metric": "bpf_us"}]}, "sets no limit"),
        ({"budget": [{"metric": "bpf_us", "max": True}]}, "max must be a number, not True"),
        ({"budget": [{"metric": "bpf_us", "max": math.inf}]}, "max must be a number, not inf"),
        ({"budget": [{"metric": "bpf_us", "max": "2"}]}, "max must be a number, not '2'"),
        ({"budget": [{"metric": "bpf_us", "min": 2, "max": 1}]}, "nothing can pass"),
        ({"budget": [{"metric": "bpf_us", "max": 1, "arm": "http"}, {}]}, "Budget 2"),
        ({"budget": [{"metric": "bpf_us", "max": 1, "arm": []}]}, "arm must be a name or a list"),
        ({"budget": [{"metric": "bpf_us", "max": 1, "workload": []}]}, "workload must be a name"),
        ({"budget": [{"metric": "bpf_us", "max": 1, "arm": 3}]}, "arm must be a name or a list"),
        ({"budget": [{"metric": "bpf_us", "max": 1, "arm": [""]}]}, "arm must be a name or a list"),
        ({"budget": [{"metric": "bpf_us[x]", "max": 1}]}, "bpf_us is not divided further"),
        ({"budget": [{"metric": "coverage_percent[x", "min": 1}]}, "coverage_percent[NAME]"),
        ({"budget": [{"metric": "workload_cpu_precent", "max": 1}]},
         "The nearest is workload_cpu_percent"),
        ({"budget": [{"metric": "bpf_us", "maximum": 1}]}, "The nearest is max;"),
        ({"budget": [{"metric": "lost_percent", "max_percent": 1}]}, "lost_percent is in %"),
    ],
)  # fmt: skip
def test_a_bad_budget_is_told_in_words(data: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        budgets.from_dict(data)


def test_a_budget_file_that_cannot_be_read(tmp_path: Path) -> None:
    for content, message in ((None, "No such file"), (b"[[budget", "not valid TOML"),
                             (b"\xff\xfe", "not a text file")):  # fmt: skip
        path = tmp_path / f"{message[:3]}.toml"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            budgets.load(path)


def test_value_and_increase_in_one_table_are_two_budgets() -> None:
    table = {"metric": "agent_memory_mb", "max": 60, "max_increase": 5}
    first, second = budgets.from_dict({"budget": [table]})
    assert (first.kind, first.most, second.kind, second.most) == ("value", 60, "increase", 5)
    assert first.number == second.number == 1
