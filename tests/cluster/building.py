"""How an image of the tests is built, and those that a control plane is made of.

`images` makes kind's node of them, `machines` what an air-gapped machine is given.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from harness.linux import processes
from tests.cluster import programs
from tests.cluster.engine import Engine

BASE = "harness-test/debian:bookworm"
FILES = Path(__file__).with_name("images")
SECONDS = 3600
_STATIC = {
    "kube-apiserver": f"registry.k8s.io/kube-apiserver:v{programs.KUBERNETES}",
    "kube-controller-manager": f"registry.k8s.io/kube-controller-manager:v{programs.KUBERNETES}",
    "kube-scheduler": f"registry.k8s.io/kube-scheduler:v{programs.KUBERNETES}",
    "etcd": "registry.k8s.io/etcd:3.6.5-0",
    "coredns": "registry.k8s.io/coredns/coredns:v1.12.1",
    "pause": "registry.k8s.io/pause:3.10.1",
}
"""Programs whose image holds nothing else, by the names that kubeadm and containerd ask for."""
PROXY = f"registry.k8s.io/kube-proxy:v{programs.KUBERNETES}"


def has(running: Engine, name: str, *only: str) -> bool:
    """Whether the engine has this image, and it is what `docker images` is told to look for."""
    return bool(running.docker("images", "--quiet", *only, name).strip())


def base(running: Engine) -> None:
    """Debian as debootstrap makes it, in the place of the registry's debian:bookworm-slim."""
    if has(running, BASE):
        return
    root = programs.cache() / "debian"
    if not (root / "etc/debian_version").exists():
        print("debootstrap", flush=True)
        argv = ["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm"]
        processes.run([*argv, str(root)], timeout=SECONDS)
    with tempfile.NamedTemporaryFile(suffix=".tar", dir=programs.cache()) as packed:
        argv = ["tar", "--create", "--numeric-owner", "--exclude=./var/cache/apt/archives/*.deb"]
        processes.run([*argv, f"--file={packed.name}", "--directory", str(root), "."], timeout=600)
        running.docker("import", packed.name, BASE)
    shutil.rmtree(root)


def program(
    running: Engine, name: str, path: Path, tag: str, label: str = "", command: str = ""
) -> None:
    """An image of one static program, which it starts unless it is told otherwise.

    One whose project's has no entry point has none either; the program is where `command` says.
    """
    with tempfile.TemporaryDirectory(prefix="images-", dir=programs.cache()) as draft:
        context = Path(draft)
        (context / "empty").mkdir()
        link(path, context / name)
        text = (FILES / "program" / "Containerfile").read_text()
        place = Path(command) if command else Path("/usr/local/bin", name)
        for word, meant in (
            ("FOLDER/PROGRAM", str(place)),
            ("FOLDER", str(place.parent).rstrip("/")),
            ("PROGRAM", name),
            ("STARTED", "CMD" if command else "ENTRYPOINT"),
        ):
            text = text.replace(word, meant)
        (context / "Containerfile").write_text(text)
        labels = [f"--label={label}"] if label else []
        running.docker("build", *labels, "--tag", tag, "--file", f"{draft}/Containerfile", draft)


def build(running: Engine, context: Path, tag: str, *more: str, source: str = BASE) -> None:
    """An image of a folder with a Containerfile, on top of `source`; RUN has the network."""
    running.docker(
        "build", "--network=host", "--tag", tag, "--build-arg", f"BASE={source}", *more,
        "--file", f"{context}/Containerfile", str(context), seconds=SECONDS,
    )  # fmt: skip


def save_kubernetes(running: Engine, draft: Path, saved: Path) -> None:
    """The images that kubeadm starts, as files in `saved`; `draft` is a folder to work in."""
    built = programs.folder("kubernetes")
    places = {name: built / name for name in _STATIC if name.startswith("kube-")}
    places |= {"etcd": programs.folder("etcd") / "server"}
    places |= {"coredns": programs.folder("coredns") / "coredns", "pause": _pause(draft)}
    saved.mkdir(parents=True)
    for name, tag in _STATIC.items():
        print(f"image {tag}", flush=True)
        program(running, name, places[name], tag)
        running.docker("save", "--output", f"{saved}/{name}.tar", tag)
    proxy = draft / "proxy"
    proxy.mkdir()
    link(built / "kube-proxy", proxy / "kube-proxy")
    shutil.copy(FILES / "proxy" / "Containerfile", proxy)
    build(running, proxy, PROXY)
    running.docker("save", "--output", f"{saved}/kube-proxy.tar", PROXY)
    running.docker("rmi", *_STATIC.values(), PROXY)  # they are in files now


def _pause(draft: Path) -> Path:
    made = draft / "pause"
    argv = ["gcc", "-O2", "-static", "-o", str(made), str(FILES / "pause" / "pause.c")]
    processes.run(argv)
    return made


def link(source: Path, target: Path) -> None:
    """A hard link where it can be: programs are large."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy(source, target)
