"""Which pods agents see: said on the command line, checked before anything, given to the chart."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.cli import selectors as words
from harness.errors import InputError
from harness.targets.kubernetes import chosen, selectors, values
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.selectors import Selectors

STACK = values.stack("kind-shop")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Selectors(namespaces="kube-*"), "no name of a namespace"),
        (Selectors(excluded="Kube"), "no name of a namespace"),
        (Selectors(pods="app in"), "no label selector"),
        (Selectors("shop", "shop"), "both included and excluded"),
    ],
)
@pytest.mark.parametrize("profile", ["poc", "production"])
def test_what_is_no_selector_is_refused_before_anything(
    asked: Selectors, said: str, profile: str
) -> None:
    with pytest.raises(InputError, match=said):
        chosen.check(Options("kind", selectors=asked, profile=profile))


def test_values_say_nothing_of_it_unless_asked() -> None:
    assert "agents" not in values.values(STACK, "node", of_agents=selectors.values(Selectors()))
    found = selectors.values(Selectors(" shop,web ", "", " tier!=test"))
    assert found == {"namespaces": ["shop", "web"], "podSelector": "tier!=test"}
    assert values.values(STACK, "node", of_agents=found)["agents"] == found


@pytest.mark.parametrize("profile", ["poc", "production"])
def test_a_plan_says_what_agents_would_see(profile: str) -> None:
    argv = ["up", "--target", "existing", "--profile", profile, "--plan"]
    asked = ["--agent-namespaces", "shop,web", "--agent-pod-selector", "tier!=test"]
    done = CliRunner().invoke(app, [*argv, *asked, "--json"])
    assert json.loads(done.stdout)["agents"] == {
        "namespaces": ["shop", "web"], "podSelector": "tier!=test",
    }  # fmt: skip
    done = CliRunner().invoke(app, [*argv, *asked])
    assert "Agents would see pods of shop, web; with tier!=test." in done.stdout
    again = "--agent-namespaces shop,web --agent-pod-selector 'tier!=test'"
    assert f"Next: harness up --target existing{_profile(profile)} {again}" in done.stdout


def _profile(name: str) -> str:
    return "" if name == "poc" else f" --profile {name}"


def test_a_bad_selector_ends_a_plan_with_what_and_why_and_what_to_do() -> None:
    argv = ["up", "--target", "kind", "--plan", "--agent-pod-selector", "app in"]
    done = CliRunner().invoke(app, argv)
    assert done.exit_code == 2
    for part in ("'app in' is no label selector.", "is no key of a label", "Write for instance"):
        assert part in " ".join(done.output.split())


def test_nothing_is_said_of_agents_that_see_everything() -> None:
    assert words.said({}) == ""
    assert (
        "Agents would" not in CliRunner().invoke(app, ["up", "--target", "kind", "--plan"]).stdout
    )


def test_it_does_not_go_with_this_machine() -> None:
    done = CliRunner().invoke(app, ["up", "--plan", "--agent-namespaces", "shop"])
    assert done.exit_code == 2
    assert "does not go with --target local" in done.output
