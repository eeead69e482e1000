"""docs/kernels.md is what guests left, as it is kept in tests/cases/kernels; not by hand."""

from __future__ import annotations

from typing import Any

from tests.kernels import page, record

REFUSED = {"what": "The kernel refused it.", "why": "For so.", "next_step": "Take another."}


def kept(**more: Any) -> dict[str, Any]:
    cases = [
        {"collector": "http", "what": "requests", "made": 23, "hooks": ["a", "b"], "seen": 23},
        {"collector": "flows", "what": "connections", "made": 23, "hooks": ["c"], "seen": 22},
        {"collector": "guard", "what": "files", "made": 23, "refused": REFUSED},
        {"collector": "sham", "what": "runs", "made": 23, "error": "OSError: gone"},
    ]
    hooks = [{"name": "kprobe", "refused": REFUSED}, {"name": "fentry", "seen": 23}]
    machine = {"distribution": "Debian 0", "release": "1.2.3", "security": "bpf"}
    return {**machine, "cases": cases, "hooks": hooks, "doctor": {"lsm": "No.", "tc": ""}, **more}


def test_the_page_is_what_is_kept() -> None:
    assert page.PAGE.read_text() == page.render(record.kept())


def test_a_row_tells_what_was_seen_and_the_hooks_or_the_reason() -> None:
    tests = {"passed": 3, "failed": [], "skipped": [["test_a::test_b", "no | here"]]}
    lines = page.render({"one": kept(tests=tests)}).splitlines()
    assert "| collector | events | Debian 0, 1.2.3 |" in lines
    assert "| `http` | requests | 23 of 23 `a`, `b` |" in lines
    assert "| `flows` | connections | **22 of 23** `c` |" in lines
    assert "| `guard` | files | refused (1) |" in lines
    assert "| `sham` | runs | **failed** (2) |" in lines
    assert "| `kprobe` | refused (1) |" in lines
    assert "| `fentry` | 23 of 23 |" in lines
    assert "| lsm | refused (3) |" in lines
    assert "| tc | there |" in lines
    assert "| 1.2.3 | 3 | none | `test_a::test_b`: no \\| here |" in lines
    assert lines[-3:] == ["1. The kernel refused it. For so.", "2. OSError: gone", "3. lsm: No."]


def test_what_one_kernel_was_not_asked_is_not_tried_there() -> None:
    more = kept(cases=[], hooks=[], doctor={}, tests={}, release="2.0")
    lines = page.render({"one": kept(tests={}), "two": more}).splitlines()
    assert "| `http` | requests | 23 of 23 `a`, `b` | not tried |" in lines
    assert "| tc | there |  |" in lines
    assert not any("tests/bpf" in line for line in lines)
