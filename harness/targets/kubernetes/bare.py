"""What a person says of the machines that become a cluster, the target `vm`; for `chosen`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.errors import InputError

MAKERS = ("containers", "qemu")
"""How machines can be made."""
_VERSION = re.compile(r"v?\d+\.\d+(\.\d+)?")
_VARIABLE = re.compile("(?!kubeconfig=|cluster_state=)[A-Za-z_][A-Za-z0-9_]*=")


@dataclass(frozen=True)
class Machines:
    """What a person says of the machines of the target `vm`: an inventory, or how many to make.

    `upgrade` is the version of Kubernetes that a cluster which is there is to be brought to.
    """

    inventory: str = ""
    create: int = 0
    maker: str = "containers"
    unaccelerated: bool = False
    variables: tuple[str, ...] = ()
    reset: bool = False
    control_planes: int = 1
    upgrade: str = ""


NONE = Machines()
"""Nothing was said of any."""


def check(asked: Machines, image: str) -> None:
    """InputError if this makes no sense; `image` is what machines would be made from."""
    if asked.inventory and asked.create:
        raise InputError(
            "--inventory names machines, --create makes others.", next_step="Give one of them."
        )
    if asked.maker not in MAKERS:
        raise InputError(
            f"There are no machines of the kind {asked.maker!r}.",
            next_step=f"Take --machines {' or '.join(MAKERS)}.",
        )
    made = {"--image": image, "--unaccelerated": asked.unaccelerated,
            "--control-planes": asked.control_planes != Machines.control_planes}  # fmt: skip
    if asked.inventory and (given := [name for name, value in made.items() if value]):
        raise InputError(
            f"{' and '.join(given)} is of machines that are made.",
            next_step="Leave it out, or give --create instead of --inventory.",
        )
    if asked.unaccelerated and asked.maker != "qemu":
        raise InputError(
            "--unaccelerated is for guests of QEMU.", next_step="Give --machines qemu, too."
        )
    _check_control_planes(asked)
    if asked.upgrade and not _VERSION.fullmatch(asked.upgrade):
        raise InputError(
            f"{asked.upgrade!r} is no version of Kubernetes.",
            "It is the next minor version, as 1.35, or one of its releases, as 1.35.2.",
            "Write it so: --upgrade 1.35.",
        )
    for variable in asked.variables:
        if not _VARIABLE.match(variable):
            raise InputError(
                f"--set {variable.partition('=')[0]} sets no variable.",
                "It is NAME=VALUE; where the way in is kept (kubeconfig), and what hosts note "
                "(cluster_state), is not yours to set.",
                "Write it so: --set cluster_network=flannel.",
            )


def _check_control_planes(asked: Machines) -> None:
    count = asked.control_planes
    if count % 2 == 0:
        raise InputError(
            f"{count} control planes are no safer than {count - 1}.",
            "A cluster keeps what it knows on them, and needs more than half of them to go on.",
            "Take --control-planes 1 or 3.",
        )
    if asked.create and count > asked.create:
        raise InputError(
            f"{count} control planes do not go on {asked.create} machines.",
            next_step=f"Make as many at least: --create {count}.",
        )
