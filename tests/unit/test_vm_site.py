"""What the playbook of a cluster is given, and the way in that is kept of what it fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ComponentError, InputError
from harness.targets.kubernetes.chosen import Machines, Options
from harness.targets.vm import noted, site


def test_an_upgrade_says_which_packages_are_meant() -> None:
    asked = Options("vm", machines=Machines(upgrade="v1.35.2", variables=("cluster_minor=1.34",)))
    assert site._given(asked) == {"cluster_minor": "1.35"}
    assert site._given(Options("vm")) == {}


def test_a_variable_is_text_unless_it_is_a_list_a_truth_or_a_number() -> None:
    assert site._variable("cluster_minor=1.30") == ("cluster_minor", "1.30")
    assert site._variable("a=b=c") == ("a", "b=c")
    assert site._variable('a=["Swap"]') == ("a", ["Swap"])
    assert site._variable("a=true") == ("a", True)
    assert site._variable("a=1024") == ("a", 1024)
    with pytest.raises(InputError, match="--set a cannot be read"):
        site._variable("a=[x")


def test_the_way_in_is_called_by_the_clusters_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its admin's configuration stays as it was fetched, or the next run would fetch it anew."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        '#!/bin/sh\ncase "$*" in *current-context*) echo admin@kubernetes;;\n'
        '*rename-context*) echo "$5 for $4" >>"${1#--kubeconfig=}";; esac\n'
    )
    kubectl.chmod(0o755)
    folder = noted.folder("shop")
    folder.mkdir(parents=True)
    with pytest.raises(ComponentError, match="no way into it was fetched"):
        site._keep_way_in("shop", folder)
    (folder / "admin.conf").write_text("secret\n")
    site._keep_way_in("shop", folder)
    assert (folder / "kubeconfig").read_text() == "secret\nvm-shop for admin@kubernetes\n"
    assert (folder / "kubeconfig").stat().st_mode & 0o777 == 0o600
    assert (folder / "admin.conf").read_text() == "secret\n"
