"""Cilium as the network of a cluster: programs, images, a node of kind, what machines are given.

`make test-hubble` has it made, which takes minutes, for `test_hubble` and `test_cilium`; other
tests need none of it. The programs are as their module builds them, but where the kernel has no
modules at all: /proc/modules is then missing, which this version takes for an error and does not
start. There one path in the agent's program is changed to that of an empty file.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from harness.linux import processes
from tests.cluster import building, engine, images, machines, programs
from tests.cluster.building import FILES
from tests.cluster.engine import Engine

AGENT = f"docker.io/harness-test/cilium:v{programs.CILIUM}"
OPERATOR = f"docker.io/harness-test/cilium-operator:v{programs.CILIUM}"
NODE = f"harness-test/node-cilium:v{programs.KUBERNETES}-{programs.CILIUM}"
MODULES, EMPTY = b"/proc/modules", b"/etc/kmodules"
_BUILT_IN = (
    "ip_tables", "iptable_nat", "iptable_mangle", "iptable_raw", "iptable_filter", "xt_socket",
)  # fmt: skip
_PLACES = {
    "daemon": "usr/bin/cilium-agent",
    "cilium-dbg": "usr/bin/cilium-dbg",
    "cilium-cni": "opt/cni/bin/cilium-cni",
    "mount": "usr/bin/cilium-mount",
    "sysctlfix": "usr/bin/cilium-sysctlfix",
    "cilium-health": "usr/bin/cilium-health",
    "responder": "usr/bin/cilium-health-responder",
    "sources/images/cilium/init-container.sh": "init-container.sh",
    "sources/plugins/cilium-cni/install-plugin.sh": "install-plugin.sh",
    "sources/plugins/cilium-cni/cni-uninstall.sh": "cni-uninstall.sh",
}


def is_made(running: Engine) -> bool:
    """Whether the image of a node is there, of these programs and files."""
    return building.has(running, NODE, "--filter", f"label=harness.program={_key()}")


def files(running: Engine) -> Path:
    """Where the folder is, or will be, that machines are given: that of others, and Cilium."""
    return programs.cache() / f"cilium-{machines.files(running).name}-{_key()}"


def values() -> dict[str, Any]:
    """What the chart is told for these images and machines, beside what the playbooks tell it."""
    given = _values()
    image = {"image": given["operator"]["image"]}
    return {
        "image": given["image"], "operator": image, "securityContext": given["securityContext"],
    }  # fmt: skip


def make(running: Engine) -> None:
    """All that is not there; `images` has made the plain node and the files of others."""
    is_there, whole = is_made(running), files(running)
    if is_there and whole.is_dir():
        return
    with tempfile.TemporaryDirectory(prefix="images-", dir=programs.cache()) as folder:
        draft, saved = Path(folder), Path(folder) / "images"
        saved.mkdir()
        _agent(running, draft / "agent")
        operator = programs.folder("cilium") / "operator"
        building.program(running, "cilium-operator-generic", operator, OPERATOR)
        for name, tag in (("cilium-agent", AGENT), ("cilium-operator", OPERATOR)):
            running.docker("save", "--output", f"{saved}/{name}.tar", tag)
        running.docker("rmi", AGENT, OPERATOR)  # they are in files now
        if not is_there:
            _node(running, draft, saved)
        if not whole.is_dir():
            _files(running, draft / "files", saved)
            for old in programs.cache().glob("cilium-machine-files-*"):
                shutil.rmtree(old)
            (draft / "files").rename(whole)


def _node(running: Engine, draft: Path, saved: Path) -> None:
    node = draft / "node"
    shutil.copytree(FILES / "node-cilium", node)
    shutil.copytree(saved, node / "images", copy_function=os.link)
    (node / "default-cni.yaml").write_text(_rendered(draft))
    print(f"image {NODE}", flush=True)
    label = f"--label=harness.program={_key()}"
    building.build(running, node, NODE, label, source=images.NODE)


def _files(running: Engine, whole: Path, saved: Path) -> None:
    shutil.copytree(machines.files(running), whole, copy_function=os.link)
    for each in saved.iterdir():
        building.link(each, whole / "images" / each.name)
    (whole / "charts").mkdir()
    with tarfile.open(whole / "charts" / f"cilium-{programs.CILIUM}.tgz", "w:gz") as packed:
        packed.add(_chart(), "cilium")
    (whole / "SHA256SUMS").unlink()
    (whole / "SHA256SUMS").write_text(machines.sums(whole))


def _key() -> str:
    """What tells what is made of these programs and files from what is made of others."""
    found = hashlib.sha256(Path(__file__).read_bytes())
    for folder in ("cilium", "node-cilium"):
        for file in sorted((FILES / folder).iterdir()):
            found.update(file.read_bytes())
    return f"{programs.folder('cilium').name}-{found.hexdigest()[:12]}"


def _agent(running: Engine, context: Path) -> None:
    print(f"image {AGENT}", flush=True)
    built, root = programs.folder("cilium"), context / "root"
    for name, place in _PLACES.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        building.link(built / name, root / place)
    skipped = shutil.ignore_patterns("tests", "complexity-tests")
    shutil.copytree(built / "sources" / "bpf", root / "var/lib/cilium/bpf", ignore=skipped)
    if not Path(MODULES.decode()).exists():
        _without_modules(root)
    shutil.copy(FILES / "cilium" / "Containerfile", context)
    building.build(running, context, AGENT)


def _without_modules(root: Path) -> None:
    """Where the kernel has no modules: what it has built in is listed, and nothing is loaded."""
    agent = root / _PLACES["daemon"]
    changed = agent.read_bytes().replace(MODULES, EMPTY)
    agent.unlink()  # it may be a link to what was built
    agent.write_bytes(changed)
    (root / EMPTY.decode().lstrip("/")).parent.mkdir(exist_ok=True)
    (root / EMPTY.decode().lstrip("/")).touch()
    listed = root / "usr/lib/debug/lib/modules" / platform.release() / "modules.builtin"
    listed.parent.mkdir(parents=True)
    listed.write_text("".join(f"kernel/{name}.ko\n" for name in _BUILT_IN))


def _rendered(draft: Path) -> str:
    """Its own chart, with the values of these tests."""
    file = draft / "values.json"
    file.write_text(json.dumps(_values()))
    argv = [str(programs.folder("helm") / "helm"), "template", "cilium", str(_chart())]
    argv += ["--namespace=kube-system", f"--kube-version={programs.KUBERNETES}"]
    return processes.run([*argv, f"--values={file}"]).stdout


def _chart() -> Path:
    return programs.folder("cilium") / "sources" / "install/kubernetes/cilium"


def _values() -> dict[str, Any]:
    given = (FILES / "cilium" / "values.json").read_text()
    found: dict[str, Any] = json.loads(given.replace("AGENT", AGENT).replace("OPERATOR", OPERATOR))
    return found


def main() -> None:
    """Programs, then images."""
    programs.build_all(programs.APART)
    with (
        tempfile.TemporaryDirectory(prefix="harness-engine-") as folder,
        engine.running(Path(folder), building=True) as running,
    ):
        make(running)


if __name__ == "__main__":
    sys.exit(main())
