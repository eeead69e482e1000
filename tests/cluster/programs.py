"""The programs of a test cluster, built from Go modules into the cache; `make test-cluster` asks.

Users have kind, helm and docker on PATH and node images in a registry; where neither is to be had,
these stand in for them. The cache is `cluster` beside that of the stack. What was built is used
until its module's files here change.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.linux import processes
from harness.stack import supply, toolchain

MODULES = Path(__file__).with_name("modules")
KUBERNETES = "1.34.4"
CILIUM = "1.15.19"
_SECONDS = 7200  # the seven programs of Kubernetes take ten minutes on two idle cores


@dataclass(frozen=True)
class Module:
    """Go packages that are built in one module; a program is called as its package's last part.

    Of the module `of` some `sources` are kept with the programs, in `sources` there.
    """

    name: str
    packages: tuple[str, ...]
    flags: str = "-s -w"
    cgo: bool = False
    tags: str = ""
    of: str = ""
    sources: tuple[str, ...] = ()


def _stamp() -> str:
    """kubeadm compares versions, and kubelets tell theirs."""
    major, minor, _ = KUBERNETES.split(".")
    values = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor}
    values["gitTreeState"] = "clean"
    return "".join(
        f" -X k8s.io/{package}/version.{name}={value}"
        for package in ("component-base", "client-go/pkg")
        for name, value in values.items()
    )


_COMMANDS = (
    "kubelet", "kubeadm", "kubectl", "kube-apiserver", "kube-controller-manager",
    "kube-scheduler", "kube-proxy",
)  # fmt: skip

ALL = (
    Module("kind", ("sigs.k8s.io/kind",)),
    Module(
        "helm",
        ("helm.sh/helm/v3/cmd/helm",),
        "-s -w -X helm.sh/helm/v3/internal/version.version=v3.19.5",
    ),
    Module("otelcol", (".",)),
    Module("etcd", ("go.etcd.io/etcd/server/v3",)),
    Module("flannel", ("github.com/flannel-io/flannel",), cgo=True),
    Module("flannel-plugin", ("github.com/containernetworking/plugins/plugins/meta/flannel",)),
    Module("local-path-provisioner", ("github.com/rancher/local-path-provisioner",)),
    Module("kwok", ("sigs.k8s.io/kwok/cmd/kwok",)),
    Module("coredns", ("github.com/coredns/coredns",)),
    Module(
        "kubernetes",
        tuple(f"k8s.io/kubernetes/cmd/{name}" for name in _COMMANDS),
        "-s -w" + _stamp(),
    ),
)

_OF_CILIUM = (
    "daemon", "operator", "cilium-dbg", "plugins/cilium-cni", "tools/mount", "tools/sysctlfix",
    "cilium-health", "cilium-health/responder",
)  # fmt: skip

APART = (
    Module(
        "cilium",
        tuple(f"github.com/cilium/cilium/{name}" for name in _OF_CILIUM),
        f"-s -w -X github.com/cilium/cilium/pkg/version.ciliumVersion={CILIUM}",
        tags="ipam_provider_operator",
        of="github.com/cilium/cilium",
        sources=(
            "bpf", "install/kubernetes/cilium", "images/cilium/init-container.sh",
            "plugins/cilium-cni/install-plugin.sh", "plugins/cilium-cni/cni-uninstall.sh",
        ),
    ),
)  # fmt: skip
"""What one test needs alone, which has it built: `cilium` does."""


def cache() -> Path:
    """Where everything of a test cluster is kept between runs."""
    return supply.cache().with_name("cluster")


def folder(name: str) -> Path:
    """Where the programs of a module are, or will be."""
    module = next(each for each in (*ALL, *APART) if each.name == name)
    return cache() / "bin" / f"{name}-{_key(module)}"


def path() -> str:
    """What PATH has to begin with for kind, helm and kubectl."""
    return ":".join(str(folder(name)) for name in ("kind", "helm", "kubernetes"))


def build_all(modules: Sequence[Module] = ALL) -> None:
    """Build what is not there; the module cache, which only builds need, is removed at the end."""
    missing = [module for module in modules if not folder(module.name).is_dir()]
    for module in missing:
        print(f"building {module.name}", flush=True)
        _build(module)
    if missing:
        supply.tidy(cache())


def _key(module: Module) -> str:
    said = f"{module.packages} {module.flags}"
    if module.tags or module.sources:
        said += f" {module.tags} {module.sources}"
    found = hashlib.sha256(said.encode())
    for file in sorted((MODULES / module.name).iterdir()):
        found.update(file.read_bytes())
    return found.hexdigest()[:12]


def _build(module: Module) -> None:
    draft = cache() / "draft" / module.name
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(MODULES / module.name, draft / "module")
    go = toolchain.choose(draft / "module" / "go.mod")
    argv = ["nice", "-n", "19", "go", "build", "-mod=mod", "-trimpath", "-ldflags", module.flags]
    argv += ["-tags", module.tags] if module.tags else []
    cgo = {"CGO_ENABLED": "1"} if module.cgo else {}
    environment = {**toolchain.environment(go, cache()), **cgo}
    processes.run(
        [*argv, "-o", f"{draft}/programs/", *module.packages],
        cwd=draft / "module", env=environment, timeout=_SECONDS,
    )  # fmt: skip
    if module.sources:
        _keep(module, draft, environment)
    folder(module.name).parent.mkdir(parents=True, exist_ok=True)
    (draft / "programs").rename(folder(module.name))  # whole or not at all
    shutil.rmtree(draft)


def _keep(module: Module, draft: Path, environment: dict[str, str]) -> None:
    """Copy its sources out of the module cache, which goes."""
    argv = ["go", "mod", "download", "-json", module.of]
    asked = {**environment, "GOFLAGS": f"{environment['GOFLAGS']} -mod=mod"}
    done = processes.run(argv, cwd=draft / "module", env=asked, timeout=600)
    place = Path(json.loads(done.stdout)["Dir"])
    for each in module.sources:
        source, target = place / each, draft / "programs" / "sources" / each
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)


def main(names: Sequence[str]) -> None:
    """Build these, or all."""
    build_all([each for each in ALL if each.name in names] if names else ALL)


if __name__ == "__main__":
    main(sys.argv[1:])
