"""What collectors look for in a node that is a container, mounted; for `kind`, `containers`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.errors import NeedError
from harness.linux import processes

_SCRIPT = """#!/bin/sh
# what collectors look for in a node; harness put this here
set -e
mounted() {
    mountpoint -q "$2" || { mkdir -p "$2" && mount -t "$1" "$1" "$2"; }
}
mounted tracefs /sys/kernel/tracing
mounted debugfs /sys/kernel/debug
mounted bpf /sys/fs/bpf
if [ -n "@UNIFIED@" ] && [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
    mounted cgroup2 /sys/fs/cgroup/unified
fi
# as on a machine: what is mounted later is seen in pods, which the kubelet asks for
mount --make-rshared /
"""
_UNIT = """[Unit]
Description=What collectors look for
Before=containerd.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/harness-mounts
[Install]
WantedBy=multi-user.target
"""
_INSTALL = (
    "cat >/usr/local/sbin/harness-mounts && chmod 755 /usr/local/sbin/harness-mounts "
    '&& printf %s "$1" >/etc/systemd/system/harness-mounts.service '
    "&& systemctl --quiet enable harness-mounts && harness-mounts"
)
_BTF = "/sys/kernel/btf/vmlinux"
_UNIFIED = Path("/sys/fs/cgroup/unified")


def put(containers: list[str]) -> None:
    """Mount it in each of docker's containers, now and whenever it starts.

    Where cgroup v2 is mounted beside v1 on this machine, a node's runtime would see v1 only, and no
    pod could be traced or metered alone: it gets its own part of v2, which goes with it. NeedError
    where the kernel has no type information.
    """
    unified = "yes" if (_UNIFIED / "cgroup.controllers").exists() else ""
    script = _SCRIPT.replace("@UNIFIED@", unified)
    with tempfile.NamedTemporaryFile("w", prefix="harness-mounts-") as file:
        file.write(script)
        file.flush()
        for container in containers:
            argv = ["docker", "exec", "--interactive", "--privileged", container]
            processes.run([*argv, "sh", "-c", _INSTALL, "sh", _UNIT], input_file=Path(file.name))
            _require_btf(container)


def _require_btf(container: str) -> None:
    argv = ["docker", "exec", container, "test", "-r", _BTF]
    if processes.run(argv, check=False).returncode:
        raise NeedError(
            f"The node {container} has no {_BTF}.",
            "Collectors are loaded with the types of the kernel (BTF).",
            "Take a kernel that is built with CONFIG_DEBUG_INFO_BTF.",
        )
