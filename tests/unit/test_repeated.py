"""What `up --plan` says to say next has what was asked for, and no secret of it."""

from __future__ import annotations

import pytest

from harness.cli import repeated
from harness.targets.kubernetes.bare import Machines
from harness.targets.kubernetes.chosen import Options


def said(*variables: str) -> str:
    machines = Machines(inventory="a file.yml", variables=variables)
    return repeated.given(Options(target="vm", machines=machines))


@pytest.mark.parametrize(
    "variable",
    [
        "ansible_become_password=hunter2",
        "ansible_ssh_pass=hunter2",
        "registry_TOKEN=hunter2=",
        "a_secret=hunter2",
        "api_key=hunter2",
        'cluster_cilium_values={"auth": {"password": "hunter2"}}',
    ],
)
def test_a_secret_is_not_said_again(variable: str) -> None:
    found = said("cluster_minor=1.33", variable)
    assert "hunter2" not in found
    name = variable.partition("=")[0]
    assert found == f" --inventory 'a file.yml' --set cluster_minor=1.33 --set {name}=..."


@pytest.mark.parametrize(
    "variable", ["cluster_network=cilium", "ansible_ssh_private_key_file=/root/key", "passes=2"]
)
def test_what_is_no_secret_is_said_as_it_was(variable: str) -> None:
    assert said(variable).endswith(f" --set {variable}")
