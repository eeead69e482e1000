"""Options for the machines of a roll-out, and what is refused with other targets; for `rollout`."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.cluster import refuse
from harness.targets.kubernetes.bare import Machines

Inventory = Annotated[
    str,
    typer.Option(
        "--inventory", metavar="FILE", help="vm: machines that are there, as Ansible names them."
    ),
]
Create = Annotated[
    int, typer.Option("--create", min=0, metavar="N", help="vm: make so many machines instead.")
]
ControlPlanes = Annotated[
    int,
    typer.Option(
        "--control-planes",
        min=1,
        metavar="N",
        help="vm: how many of those that are made are control planes: one or three.",
    ),
]
Upgrade = Annotated[
    str,
    typer.Option(
        "--upgrade",
        metavar="VERSION",
        help="vm: bring the cluster to the next minor version of Kubernetes, node by node.",
    ),
]
Maker = Annotated[
    str,
    typer.Option(
        "--machines",
        metavar="containers|qemu",
        help="vm: what is made: containers with systemd, to try it out; or guests of QEMU.",
    ),
]
Unaccelerated = Annotated[
    bool,
    typer.Option(
        "--unaccelerated", help="vm: make guests also without KVM; their numbers mean nothing."
    ),
]
Variables = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="vm: a variable of the playbooks (docs/vm.md); may be repeated.",
    ),
]
Reset = Annotated[
    bool,
    typer.Option("--reset", help="vm: take the cluster off the machines of an inventory, too."),
]


def asked(
    target: str,
    inventory: str = "",
    create: int = 0,
    maker: str = Machines.maker,
    unaccelerated: bool = False,
    variables: list[str] | None = None,
    reset: bool = False,
    *,
    control_planes: int = Machines.control_planes,
    upgrade: str = "",
) -> Machines:
    """What is said of machines; InputError where another target is meant."""
    found = Machines(
        inventory, create, maker, unaccelerated, tuple(variables or ()), reset, control_planes,
        upgrade,
    )  # fmt: skip
    if target != "vm":
        given = {
            "inventory": inventory, "create": create, "machines": maker != Machines.maker,
            "unaccelerated": unaccelerated, "set": variables, "reset": reset,
            "control-planes": control_planes != Machines.control_planes, "upgrade": upgrade,
        }  # fmt: skip
        refuse(given, target)
    return found
