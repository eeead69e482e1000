"""The images of a test cluster, made without a registry: kind's node, and those of the product.

`make test-cluster` asks. They stay in the engine's folder in the cache; what is there already is
not made again.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from harness.linux import processes
from harness.stack import catalog, supply
from harness.targets.kubernetes import images as product
from tests.cluster import engine, programs
from tests.cluster.engine import Engine

BASE = "harness-test/debian:bookworm"
NODE = f"harness-test/node:v{programs.KUBERNETES}"
_FILES = Path(__file__).with_name("images")
_SECONDS = 3600
_STATIC = {
    "kube-apiserver": f"registry.k8s.io/kube-apiserver:v{programs.KUBERNETES}",
    "kube-controller-manager": f"registry.k8s.io/kube-controller-manager:v{programs.KUBERNETES}",
    "kube-scheduler": f"registry.k8s.io/kube-scheduler:v{programs.KUBERNETES}",
    "etcd": "registry.k8s.io/etcd:3.6.5-0",
    "coredns": "registry.k8s.io/coredns/coredns:v1.12.1",
    "pause": "registry.k8s.io/pause:3.10.1",
}
"""Programs whose image holds nothing else, by the names that kubeadm and containerd ask for."""
_PROXY = f"registry.k8s.io/kube-proxy:v{programs.KUBERNETES}"


def make_all(running: Engine) -> None:
    """Every image that is not there."""
    _base(running)
    if not _has(running, NODE):
        with tempfile.TemporaryDirectory(prefix="images-", dir=programs.cache()) as draft:
            _node(running, Path(draft))
    for name in ("otelcol", "prometheus", "jaeger", "victorialogs"):
        component = catalog.known()[name]
        program = (
            _collector() if name == "otelcol" else supply.get(component, supply.cache(), print)
        )
        if not _has(running, component.image, "--filter", f"label={_made_of(program)}"):
            _program(running, name, program, component.image)
    made = product.build(print, environment=running.environment, base=BASE)
    _forget_others(running, made)


def _has(running: Engine, name: str, *only: str) -> bool:
    return bool(running.docker("images", "--quiet", *only, name).strip())


def _collector() -> Path:
    """The one of a cluster, which names pods; on one machine it would be built for nothing."""
    return programs.folder("otelcol") / "otelcol"


def _made_of(program: Path) -> str:
    """What tells an image of this program from one of an earlier program under the same name."""
    return f"harness.program={program.parent.name}"


def _forget_others(running: Engine, made: str) -> None:
    """Images of earlier code, and what only their building needed."""
    listed = running.docker("images", "--format", "{{.Repository}}:{{.Tag}}", product.REPOSITORY)
    if old := [each for each in listed.split() if each != made]:
        running.docker("rmi", *old)
    running.docker("image", "prune", "--force")


def _base(running: Engine) -> None:
    """Debian as debootstrap makes it, in the place of the registry's debian:bookworm-slim."""
    if _has(running, BASE):
        return
    root = programs.cache() / "debian"
    if not (root / "etc/debian_version").exists():
        print("debootstrap", flush=True)
        argv = ["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm"]
        processes.run([*argv, str(root)], timeout=_SECONDS)
    with tempfile.NamedTemporaryFile(suffix=".tar", dir=programs.cache()) as packed:
        argv = ["tar", "--create", "--numeric-owner", "--exclude=./var/cache/apt/archives/*.deb"]
        processes.run([*argv, f"--file={packed.name}", "--directory", str(root), "."], timeout=600)
        running.docker("import", packed.name, BASE)
    shutil.rmtree(root)


def _program(running: Engine, name: str, program: Path, tag: str) -> None:
    """An image of one static program, which it starts unless it is told otherwise."""
    with tempfile.TemporaryDirectory(prefix="images-", dir=programs.cache()) as draft:
        context = Path(draft)
        (context / "empty").mkdir()
        _link(program, context / name)
        text = (_FILES / "program" / "Containerfile").read_text()
        (context / "Containerfile").write_text(text.replace("PROGRAM", name))
        label = f"--label={_made_of(program)}"
        running.docker("build", label, "--tag", tag, "--file", f"{draft}/Containerfile", draft)


def _node(running: Engine, draft: Path) -> None:
    built = programs.folder("kubernetes")
    places = {name: built / name for name in _STATIC if name.startswith("kube-")}
    places |= {"etcd": programs.folder("etcd") / "server"}
    places |= {"coredns": programs.folder("coredns") / "coredns", "pause": _pause(draft)}
    saved = draft / "node" / "images"
    saved.mkdir(parents=True)
    for name, tag in _STATIC.items():
        print(f"image {tag}", flush=True)
        _program(running, name, places[name], tag)
        running.docker("save", "--output", f"{saved}/{name}.tar", tag)
    _proxy(running, draft / "proxy", saved / "kube-proxy.tar")
    for name in ("kubelet", "kubeadm", "kubectl"):
        _link(built / name, draft / "node" / name)
    for path in (_FILES / "node").iterdir():
        shutil.copy(path, draft / "node" / path.name)
    shutil.copytree(_kind() / "images" / "base" / "files", draft / "node" / "base")
    print(f"image {NODE}", flush=True)
    running.docker(
        "build", "--network=host", "--tag", NODE, "--build-arg", f"BASE={BASE}",
        "--build-arg", f"VERSION=v{programs.KUBERNETES}",
        "--file", f"{draft}/node/Containerfile", f"{draft}/node", seconds=_SECONDS,
    )  # fmt: skip
    running.docker("rmi", *_STATIC.values(), _PROXY)  # they are in the node's


def _proxy(running: Engine, context: Path, saved: Path) -> None:
    context.mkdir()
    _link(programs.folder("kubernetes") / "kube-proxy", context / "kube-proxy")
    shutil.copy(_FILES / "proxy" / "Containerfile", context)
    running.docker(
        "build", "--network=host", "--tag", _PROXY, "--build-arg", f"BASE={BASE}",
        "--file", f"{context}/Containerfile", str(context), seconds=_SECONDS,
    )  # fmt: skip
    running.docker("save", "--output", str(saved), _PROXY)


def _pause(draft: Path) -> Path:
    program = draft / "pause"
    argv = ["gcc", "-O2", "-static", "-o", str(program), str(_FILES / "pause" / "pause.c")]
    processes.run(argv)
    return program


def _kind() -> Path:
    """The sources of kind's module: the base of its node image are files there."""
    environment = {"GOMODCACHE": str(programs.cache() / "go" / "mod"), "GOFLAGS": "-mod=mod"}
    argv = ["go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kind"]
    done = processes.run(argv, cwd=programs.MODULES / "kind", env=environment, timeout=300)
    return Path(done.stdout.strip())


def _link(source: Path, target: Path) -> None:
    """A hard link where it can be: programs are large."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy(source, target)


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
