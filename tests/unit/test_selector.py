"""Namespaces and label selectors: read as Kubernetes reads them, refused where they are none."""

from __future__ import annotations

import pytest

from harness.wire.selector import SelectorError, matches, selection, selector

LABELS = {"app": "shop", "tier": "", "example.com/role": "web-1"}


@pytest.mark.parametrize(
    ("text", "matched"),
    [
        ("", True),
        ("app=shop", True),
        ("app==shop", True),
        (" app = shop , tier != test ", True),
        ("app!=shop", False),
        ("zone!=a", True),  # a label that is not there is not that
        ("zone=a", False),
        ("tier=", True),
        ("app", True),
        ("zone", False),
        ("!zone", True),
        ("!app", False),
        ("app in (shop, web)", True),
        ("app in (shop,web),tier", True),
        ("app notin (shop,web)", False),
        ("zone notin (a,b)", True),
        ("zone in (a,b)", False),
        ("example.com/role=web-1", True),
        ("app=shop,tier=test", False),
        ("{}", True),
        ('{"matchLabels": {"app": "shop", "tier": ""}}', True),
        ('{"matchLabels": {"app": "web"}}', False),
        ('{"matchExpressions": [{"key": "app", "operator": "In", "values": ["shop"]}]}', True),
        ('{"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}', True),
        ('{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}', False),
        ('{"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}', True),
    ],
)
def test_labels_match_as_kubernetes_has_it(text: str, matched: bool) -> None:
    assert matches(selector(text), LABELS) is matched


@pytest.mark.parametrize(
    "text",
    [
        "app in", "app in shop", "app in (a b)", "=shop", "app=shop=web", "app>1", "a b", ",",
        "app=shop,", "app=-x", "-app", "Example.COM/app", "app=" + "x" * 64, "!", "app in (a,(b))",
        "{", "[]", '{"app": "shop"}', '{"matchLabels": ["app"]}', '{"matchLabels": {"app": 1}}',
        '{"matchExpressions": [{"key": "app", "operator": "Gt", "values": ["1"]}]}',
        '{"matchExpressions": [{"key": "app", "operator": "In"}]}',
        '{"matchExpressions": [{"key": "app", "operator": "Exists", "values": ["x"]}]}',
        '{"matchExpressions": [{"key": "app", "operator": "In", "values": "shop"}]}',
        '{"matchExpressions": [{"key": "app", "operator": "In", "values": {"shop": 1}}]}',
        '{"matchExpressions": [{"key": "app", "operator": "Exists", "values": ""}]}',
        '{"matchExpressions": [{"operator": "Exists"}]}',
    ],
)  # fmt: skip
def test_what_is_no_selector_is_told_with_what_one_is(text: str) -> None:
    with pytest.raises(SelectorError, match=r"is no label selector") as told:
        selector(text)
    assert told.value.why
    assert "app=shop,tier!=test" in told.value.next_step


def test_nothing_said_selects_nothing_apart() -> None:
    assert selection() is None
    assert selection(" ", ",", " ", ["harness:app=go"]) is None


def test_namespaces_and_labels_have_both_to_fit() -> None:
    found = selection("shop, web", "", "app")
    assert found is not None
    assert found.takes("shop", {"app": ""})
    assert not found.takes("shop", {})
    assert not found.takes("bank", {"app": ""})


def test_what_is_excluded_is_all_that_is_not_seen() -> None:
    found = selection(excluded="kube-system")
    assert found is not None
    assert found.takes("shop", {})
    assert not found.takes("kube-system", {})


def test_some_are_selected_whatever_is_said() -> None:
    found = selection("shop", always=["harness:app=go"])
    assert found is not None
    assert found.takes("harness", {"app": "go"})
    assert not found.takes("harness", {"app": "flask"})
    assert not found.takes("bank", {"app": "go"})


@pytest.mark.parametrize("name", ["kube-*", "Shop", "-a", "a" * 64, "a b"])
def test_what_is_no_namespace_is_refused(name: str) -> None:
    for given in ({"namespaces": name}, {"excluded": name}):
        with pytest.raises(SelectorError, match="is no name of a namespace"):
            selection(**given)


def test_a_namespace_in_both_lists_is_refused() -> None:
    with pytest.raises(SelectorError, match="both included and excluded"):
        selection("shop,web", "web")
