"""What machines are given of the next minor version of Kubernetes; `test_upgrade` asks for it.

To build a second Kubernetes takes as long as the first. So it is the one that is there, with
another version written wherever a program has its own, which is as long: by that kubeadm decides,
and that is what nodes and the API tell. What the next version would do otherwise is not in it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from harness.linux import processes
from tests.cluster import building, machines, programs
from tests.cluster.building import FILES, PROXY
from tests.cluster.engine import Engine

OLD = f"v{programs.KUBERNETES}"
_MAJOR, _MINOR, _PATCH = programs.KUBERNETES.split(".")
MINOR = f"{_MAJOR}.{int(_MINOR) + 1}"
NEW = f"v{MINOR}.{_PATCH}"
PAUSE = "registry.k8s.io/pause:3.10.1"
_PROGRAMS = ("kubeadm", "kubectl", "kubelet")
_IMAGES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")


def files(engine: Engine, draft: Path) -> Path:
    """The folder of `machines.files` in that version, made in `draft`."""
    whole = draft / "files"
    shutil.copytree(machines.files(engine), whole, copy_function=os.link)
    for name in _PROGRAMS:
        _restamp(whole / name, whole / name)
    for name in _IMAGES:
        _restamp(programs.folder("kubernetes") / name, draft / name)
        tag = f"registry.k8s.io/{name}:{NEW}"
        building.program(engine, name, draft / name, tag)
        _save(engine, whole / "images" / f"{name}.tar", tag)
    _proxy(engine, draft, whole / "images" / "kube-proxy.tar")
    (whole / "SHA256SUMS").unlink()
    (whole / "SHA256SUMS").write_text(machines.sums(whole))
    return whole


def pause(engine: Engine, draft: Path) -> Path:
    """The image of the first process of a pod, as a file: told `-v` it ends.

    kubeadm has a pod do that before it upgrades, to see that pods are started and end.
    """
    source, program, file = draft / "pause.c", draft / "pause", draft / "pause.tar"
    text = (FILES / "pause" / "pause.c").read_text()
    waits = "int main(void)\n{\n"
    assert waits in text
    ends = "int main(int count, char **words)\n{\n\tif (count > 1 && words[1])\n\t\treturn 0;\n"
    source.write_text(text.replace(waits, ends))
    processes.run(["gcc", "-O2", "-static", "-o", str(program), str(source)])
    building.program(engine, "pause", program, PAUSE)
    _save(engine, file, PAUSE)
    return file


def _restamp(source: Path, target: Path) -> None:
    found = source.read_bytes()
    assert OLD.encode() in found, source
    assert len(OLD) == len(NEW)
    target.unlink(missing_ok=True)  # it may be a link to what was built
    target.write_bytes(found.replace(OLD.encode(), NEW.encode()))
    target.chmod(0o755)


def _proxy(engine: Engine, draft: Path, file: Path) -> None:
    """The other program in the image that there is; what else is in the archive stays as it was."""
    loaded = engine.docker("load", "--input", str(file))
    tags = [line.rpartition(" ")[2] for line in loaded.splitlines() if "Loaded image" in line]
    context = draft / "proxy"
    context.mkdir()
    _restamp(programs.folder("kubernetes") / "kube-proxy", context / "kube-proxy")
    lines = (f"FROM {PROXY}", "COPY kube-proxy /usr/local/bin/")
    (context / "Containerfile").write_text("\n".join(lines) + "\n")
    new = PROXY.replace(OLD, NEW)
    building.build(engine, context, new)
    _save(engine, file, new)
    engine.docker("rmi", *tags)


def _save(engine: Engine, file: Path, tag: str) -> None:
    file.unlink(missing_ok=True)  # it may be a link to that of the version before
    engine.docker("save", "--output", str(file), tag)
    engine.docker("rmi", tag)
