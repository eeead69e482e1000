"""Stands in for the programs of a host in `test_playbook_upgrade`: NAME VERSION FOLDER ARGUMENTS...

What kubeadm, kubectl, systemctl and apt do to a cluster they do to `cluster.json` in FOLDER, where
all that is more than a question is written down in `done`. What `breaks` there names fails, once,
after it was done: as where somebody was killed.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAME, VERSION, FOLDER, *WORDS = sys.argv[1:]
PLACE = Path(FOLDER)
HOST = socket.gethostname()
PLAIN = [word for word in WORDS if not word.startswith("--")]


def cluster() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PLACE / "cluster.json").read_text())
    return found


def write(found: dict[str, Any]) -> None:
    (PLACE / "cluster.json").write_text(json.dumps(found))


def done(*words: str) -> None:
    """Write it down, and fail where that is asked."""
    line = f"{HOST}: {' '.join(words)}"
    with (PLACE / "done").open("a") as stream:
        stream.write(f"{line}\n")
    breaks = PLACE / "breaks"
    if breaks.exists() and breaks.read_text() == line:
        breaks.unlink()
        sys.exit(f"{line} broke")


def version(program: Path) -> str:
    """That of another file like the one that has started this."""
    return program.read_text().split()[5]


def kubeadm() -> None:
    found = cluster()
    if PLAIN == ["version"]:
        print(VERSION)
    elif PLAIN[:2] == ["upgrade", "plan"]:
        done("plan", PLAIN[2])
    elif PLAIN[:2] == ["upgrade", "apply"]:
        assert PLAIN[2] == VERSION, "kubeadm upgrades to what it is itself"
        write({**found, "version": VERSION})
        done("apply", VERSION)
    elif PLAIN == ["upgrade", "node"]:
        assert found["version"] == VERSION, "the first control plane goes first"
        done("upgrade node")


def kubectl() -> None:
    found = cluster()
    nodes, said = found["nodes"], " ".join(WORDS)
    if "configmap" in PLAIN:
        print(f"apiServer: {{}}\nkubernetesVersion: {found['version']}")
    elif PLAIN[:2] == ["get", "nodes"]:
        for name, node in nodes.items():
            print(name, node["kubelet"], node["ready"])
    elif PLAIN[:2] == ["get", "node"] and "unschedulable" in said:
        print("true" if nodes[PLAIN[2]]["cordoned"] else "", end="")
    elif PLAIN[:2] == ["get", "node"]:
        node = nodes[PLAIN[2]]
        print(node["kubelet"], end=f" {node['ready']}" if "conditions" in said else "")
    elif PLAIN[:1] in (["drain"], ["uncordon"]):
        nodes[PLAIN[1]]["cordoned"] = PLAIN[0] == "drain"
        write(found)
        done(*PLAIN)


def systemctl() -> None:
    if "show" in WORDS:
        print("LoadState=loaded\nActiveState=active\nUnitFileState=enabled")
    elif "restart" in WORDS:
        found = cluster()
        assert found["nodes"][HOST]["cordoned"], "pods leave before their kubelet goes"
        found["nodes"][HOST]["kubelet"] = version(Path("/usr/local/bin/kubelet"))
        write(found)
        done("restart", found["nodes"][HOST]["kubelet"])


def apt_get() -> None:
    """Of packages that are named by a version the newest release that the repository has."""
    if "install" not in WORDS or "--simulate" in WORDS:
        return
    release = (PLACE / "repository").read_text()
    wanted = [word for word in PLAIN if word.startswith("kube")]
    for name, _, pattern in (word.partition("=") for word in wanted):
        assert f"{release}-1.1".startswith(pattern.rstrip("*")), pattern
        file = Path("/usr/local/bin", name)
        file.write_text(file.read_text().replace(f" {version(file)} ", f" v{release} "))
    done("install", *wanted)


KNOWN: dict[str, Callable[[], None]] = {
    "kubeadm": kubeadm, "kubectl": kubectl, "systemctl": systemctl, "apt-get": apt_get,
    "apt-mark": lambda: done(*WORDS), "ctr": lambda: done("images", WORDS[-1]),
    "dpkg": lambda: None,
}  # fmt: skip

if __name__ == "__main__":
    KNOWN[NAME]()
