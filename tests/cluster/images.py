"""The images of a test cluster, made without a registry: kind's node, and those of the product.

`make test-cluster` asks. They stay in the engine's folder in the cache; what is there already is
not made again.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from harness.linux import processes
from harness.stack import catalog, supply
from harness.targets.kubernetes import images as product
from tests.cluster import building, engine, machines, programs
from tests.cluster.building import BASE, FILES
from tests.cluster.engine import Engine

NODE = f"harness-test/node:v{programs.KUBERNETES}"
HOST = machines.IMAGE


def make_all(running: Engine) -> None:
    """Every image that is not there."""
    building.base(running)
    if not building.has(running, NODE):
        with tempfile.TemporaryDirectory(prefix="images-", dir=programs.cache()) as draft:
            _node(running, Path(draft))
    for name in ("otelcol", "prometheus", "jaeger", "victorialogs", *_built(["parca"])):
        component = catalog.known()[name]
        program = (
            _collector() if name == "otelcol" else supply.get(component, supply.cache(), print)
        )
        # what tells an image of this program from one of an earlier program under the same name
        label = f"harness.program={program.parent.name}"
        if not building.has(running, component.image, "--filter", f"label={label}"):
            command = "".join(component.command)
            building.program(running, name, program, component.image, label, command)
    machines.machine_image(running)
    machines.files(running)
    made = product.build(print, environment=running.environment, base=BASE)
    _forget_others(running, made)


def _built(names: Iterable[str]) -> list[str]:
    """Of components on request, for which nobody waits, those that `make stack STACK=...` built."""
    found = {name: supply.choose(catalog.known()[name], supply.cache()) for name in names}
    return [name for name, offer in found.items() if offer is not None and offer.ready]


def _collector() -> Path:
    """The one of a cluster, which names pods; on one machine it would be built for nothing."""
    return programs.folder("otelcol") / "otelcol"


def _forget_others(running: Engine, made: str) -> None:
    """Images of earlier code, and what only their building needed."""
    listed = running.docker("images", "--format", "{{.Repository}}:{{.Tag}}", product.REPOSITORY)
    if old := [each for each in listed.split() if each != made]:
        running.docker("rmi", *old)
    running.docker("image", "prune", "--force")


def _node(running: Engine, draft: Path) -> None:
    node = draft / "node"
    node.mkdir()
    building.save_kubernetes(running, draft, node / "images")
    for name in ("kubelet", "kubeadm", "kubectl"):
        building.link(programs.folder("kubernetes") / name, node / name)
    for path in (FILES / "node").iterdir():
        shutil.copy(path, node / path.name)
    shutil.copytree(_kind() / "images" / "base" / "files", node / "base")
    print(f"image {NODE}", flush=True)
    building.build(running, node, NODE, "--build-arg", f"VERSION=v{programs.KUBERNETES}")


def _kind() -> Path:
    """The sources of kind's module: the base of its node image are files there.

    Fetched if need be: what was built has no module cache any more.
    """
    environment = {"GOMODCACHE": str(programs.cache() / "go" / "mod"), "GOFLAGS": "-mod=mod"}
    argv = ["go", "mod", "download", "-json", "sigs.k8s.io/kind"]
    done = processes.run(argv, cwd=programs.MODULES / "kind", env=environment, timeout=300)
    return Path(json.loads(done.stdout)["Dir"])


def main() -> None:
    """Programs, then images."""
    programs.build_all()
    with (
        tempfile.TemporaryDirectory(prefix="harness-engine-") as folder,
        engine.running(Path(folder), building=True) as running,
    ):
        make_all(running)


if __name__ == "__main__":
    sys.exit(main())
