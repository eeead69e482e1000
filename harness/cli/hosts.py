"""`--host`, `--load-host` and `--inventory` of `harness evaluate`, as targets; for `asked`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.cli.options import Options
from harness.errors import InputError


def named(options: Options) -> Options:
    """The same with `target` and `load_target` naming the hosts; InputError where that is not so.

    A run keeps these names, and so goes on without the options.
    """
    given = {"--host": options.host, "--load-host": options.load_host,
             "--inventory": options.inventory}  # fmt: skip
    if not any(given.values()):
        return options
    kind, *words = options.target.split(",")
    if kind != "vm":
        option = next(name for name, value in given.items() if value)
        raise InputError(
            f"{option} does not go with --target {options.target}.",
            "It names one of the machines of an inventory.",
            "Give --target vm, too; or --target ssh:HOST alone.",
        )
    if not options.host and not options.load_host:
        raise InputError(
            "--inventory says where hosts are, and no host is named.", next_step="Give --host, too."
        )
    if options.load_host and options.load_target:
        raise InputError(
            "--load-host and --load-target both say where the load comes from.",
            next_step="Give one of them.",
        )
    where = [f"inventory={Path(options.inventory).resolve()}"] if options.inventory else []
    where += [word for word in words if word.startswith("name=")]
    target, load = options.target, options.load_target
    if options.host:
        others = [word for word in words if word not in where]
        target = ",".join(["vm", f"host={options.host}", *where, *others])
    if options.load_host:
        load = ",".join(["vm", f"host={options.load_host}", *where])
    return replace(options, target=target, load_target=load, host="", load_host="", inventory="")
