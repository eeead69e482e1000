"""Who keeps each signal goes into a bundle, or into a registry, with its image."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import NeedError
from harness.stack import catalog
from harness.stack.config.description import KEEPS
from harness.targets.kubernetes import archive, rollout, sources
from harness.targets.kubernetes.chosen import Options
from tests.unit import dockered
from tests.unit.dockered import Machine

WITH = {**KEEPS, "profiles": "parca"}
PARCA = catalog.known()["parca"].image


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return dockered.on_path(tmp_path, monkeypatch)


def test_a_bundle_carries_it_and_is_taken_as_it_was_written(
    machine: Machine, tmp_path: Path
) -> None:
    file = tmp_path / "b.tar"
    done = CliRunner().invoke(app, ["bundle", str(file), "--profiles", "parca"])
    assert done.exit_code == 0, done.output
    assert PARCA in done.stdout
    made = archive.read(file)
    made.require()
    assert PARCA in made.names
    told = rollout.plan(Options("existing", bundle=file, registry="r.example"))
    assert told["keeps"] == WITH
    assert f"r.example/{PARCA.partition('/')[2]}" in told["images"]
    bare = sources.bundle(tmp_path / "c.tar", print, node_image=dockered.NODE, asked="none")
    assert PARCA not in bare.names
    with pytest.raises(NeedError, match="The bundle has no image of Parca"):
        rollout.plan(Options("existing", bundle=bare.file, registry="r.example", keepers=WITH))
    with pytest.raises(NeedError, match="The bundle has no image of Parca"):
        rollout.up(Options("kind", "shop", bundle=bare.file, keepers=WITH), print)
    assert machine.told("kind", "create") == []  # no cluster was made for it


def test_it_is_pushed_if_it_is_asked_for(machine: Machine) -> None:
    push = ["images", "push", "--registry", "r.example", "--dashboards", "none"]
    done = CliRunner().invoke(app, [*push, "--profiles", "parca"])
    assert done.exit_code == 0, done.output
    assert "r.example/parca-dev/parca:" in done.stdout
    # without it `up` would take images that were not pushed
    assert "Next: harness up --target existing --registry r.example --profiles p" in done.stdout
    done = CliRunner().invoke(app, push)
    assert (done.exit_code, "parca" in done.stdout) == (0, False)
    done = CliRunner().invoke(app, [*push[:4], "--profiles", "parca", "--bundle", "b.tar"])
    assert "--profiles does not go with --bundle" in done.stderr
