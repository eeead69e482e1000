"""`harness up`, `status` and `down` in clusters, their images; called by `rollout` and `images`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli import external, planned, repeated, selectors
from harness.cli.screen import ERROR, err, out
from harness.errors import InputError
from harness.linux.stop_signals import interruptible
from harness.targets.kubernetes import archive, keepers, profiles, programs, sources
from harness.targets.kubernetes.archive import PRODUCTION, Archive
from harness.targets.kubernetes.chart_bundle import Given
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.keepers import Keepers
from harness.targets.kubernetes.rollout import RolledOut
from harness.targets.vm import remains
from harness.targets.vm import rollout as machines

tell = partial(err.print, markup=False, soft_wrap=True)


def up(options: Options, as_json: bool) -> None:
    """Roll out, then say what was found and where."""
    with interruptible():
        done = machines.of(options).up(options, tell)
    if as_json:
        out.print_json(json.dumps(_described(done)))
        return
    if not done.changed:
        out.print("It is up already, with this configuration and images: nothing was changed.")
    for arrival in done.proved.arrivals:
        found = f"found in {arrival.backend} after {arrival.seconds:.1f} s"
        out.print(f"One request's {arrival.signal}: {found}")
    external.show(done.proved.acknowledged)
    _print_pod(done.proved.origin)
    _print_dashboards(done)
    if done.changed:
        spent = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in done.phases.items())
        out.print(f"Time: {spent}; {sum(done.phases.values()):.0f} s in all.\n", soft_wrap=True)
    for title, command in done.pages.items():
        out.print(escape(f"{title}: {command}"), soft_wrap=True)
    known = machines.of(options).pages(options)
    there = [name for name, each in known.items() if each.title in done.pages]
    where, page = _where(options), next(iter([*there, *known]))
    opens = "" if options.external else f"harness open {page} {where} opens that page, "
    said = f"harness status {where} proves it again, harness down {where} removes it."
    out.print(escape(f"\nNext: {opens}{said}"), soft_wrap=True)


def plan(options: Options, as_json: bool) -> None:
    """Say what `up` would do."""
    found = machines.of(options).plan(options)
    if as_json:
        out.print_json(json.dumps(found))
        return
    if "charts" in found:
        _print_charts(found)
    else:
        _print_images(found)
    if seen := selectors.said(found.get("agents", {})):
        out.print(escape(seen), soft_wrap=True)
    external.plan(found.get("external", {}))
    _print_machines(found)
    for check in found["checks"]:
        out.print(escape(_checked(check)), soft_wrap=True)
    command = f"harness up {_where(options)}{repeated.given(options)}"
    out.print(escape(f"\nNext: {command}"), soft_wrap=True)


def _checked(check: Mapping[str, Any]) -> str:
    """Whether it is met; what was found, and what to do, where it is not."""
    if check["ok"]:
        return f"{check['what']}: yes."
    found = "" if check["found"] in ("", "no") else f" {check['found'].rstrip('.')}."
    return f"{check['what']}: no.{found} {check['hint']}".rstrip()


def status(options: Options, as_json: bool) -> None:
    """Say how it is; exit code 2 if it is not ready."""
    found = machines.of(options).status(options)
    if as_json:
        out.print_json(json.dumps(found))
    else:
        _print_status(found, options)
    if not found["ready"]:
        raise typer.Exit(ERROR)


def down(options: Options, verify: bool) -> None:
    """Remove it; with `verify` exit code 2 if something is left."""
    with interruptible() as stopping:
        stopping.shield()  # half of a cluster is of no use
        held = programs.held(options) if verify else []
        before = remains.held(options, tell) if verify else []
        done = machines.of(options).down(options, tell)
    for line in done:
        out.print(escape(line), soft_wrap=True)
    if not done:
        out.print("Nothing is up there.")
    if not verify:
        return
    left = [
        *machines.of(options).left(options),
        *programs.left(options, held, tell),
        *remains.left(options, before, tell),
    ]
    for line in left:
        out.print(escape(f"Left: {line}"), soft_wrap=True)
    if left:
        raise typer.Exit(ERROR)
    out.print("Nothing is left.")


def bundle(file: Path, wanted: Options, prefix: str, as_json: bool) -> None:
    """Write a bundle for a new cluster, then say how large it is and what is in it."""
    profiles.of(wanted)
    stays = Given(wanted.charts, wanted.values) if wanted.profile == PRODUCTION else None
    with interruptible():
        made = sources.bundle(
            file, tell, node_image=wanted.image, prefix=prefix, asked=wanted.dashboards,
            wanted=wanted.keepers, stays=stays,
        )  # fmt: skip
    if as_json:
        told = {**asdict(made), "file": str(file), "size_bytes": file.stat().st_size}
        out.print_json(json.dumps(told))
    else:
        _print_bundle(made)


def push(prefix: str, file: Path | None, asked: str = "", keeping: Keepers | None = None) -> None:
    """Push all images, then say what they are called."""
    with interruptible():
        pushed = sources.push(prefix, file, tell, asked, keeping)
    for image in pushed:
        out.print(escape(image), soft_wrap=True)
    given = f" --bundle {file}" if file else ""
    if file is not None and archive.read(file).profile == PRODUCTION:
        said = (
            f"let the runtime of each node take {prefix} for a mirror of the registries of these "
            f"images, then harness up --target existing --profile {PRODUCTION}{given}"
        )
    else:
        chose = "".join(f" --{each} {name}" for each, name in keepers.said(keeping or {}).items())
        said = f"harness up --target existing --registry {prefix}{given}{chose}"
    out.print(escape(f"\nNext: {said}"), soft_wrap=True)


def refuse(names: dict[str, Any], target: str) -> None:
    """InputError if an option was given that this target does not know."""
    given = [f"--{name}" for name, value in names.items() if value]
    if given:
        raise InputError(
            f"{' and '.join(given)} does not go with --target {target}.",
            next_step="Leave it out.",
        )


def _where(options: Options) -> str:
    """What else has to be said to mean the same roll-out."""
    given = ("name", "kubeconfig", "context", "namespace", "profile")
    more = [
        f" --{each} {shlex.quote(value)}"
        for each in given
        if (value := getattr(options, each)) != getattr(Options, each)
    ]
    return f"--target {options.target}{''.join(more)}"


def _print_images(found: dict[str, Any]) -> None:
    out.print(escape(f"{planned.stack(found)}:"), soft_wrap=True)
    for image, where in found["images"].items():
        out.print(escape(f"  {image}, {where}"), soft_wrap=True)
    _print_keepers(found)
    if found.get("keeps") and found["target"] != "kind" and "standing" not in found:
        out.print("What was not said stays as a stack that is there has it.", soft_wrap=True)
    if "dashboards" in found:
        out.print(escape(found["dashboards"]), soft_wrap=True)
    if volumes := found.get("volumes"):
        of = f" of class {volumes['class']}" if volumes["class"] else ""
        count = len(volumes["of"])
        out.print(escape(f"Their data would be in {count} volumes of {volumes['size']}{of}."))


def _print_keepers(found: Mapping[str, Any]) -> None:
    if found.get("keeps"):
        out.print(escape(keepers.told(found["keeps"])), soft_wrap=True)


def _print_machines(found: Mapping[str, Any]) -> None:
    for each in found.get("machines", ()):
        parts = (each["role"].replace("_", " ") or "no part of it", each["address"])
        made = f"made here ({each['made']})" if each["made"] else ""
        said = ", ".join(filter(None, (*parts, made)))
        out.print(escape(f"  machine {each['name']}: {said}"), soft_wrap=True)


def _print_charts(found: dict[str, Any]) -> None:
    out.print(escape(f"{planned.charts(found)}:"), soft_wrap=True)
    for row in found["charts"]:
        what = "{release}: {chart} {version} ({licence}) {does}".format(**row)
        what += ", which is there" if row.get("is_there") else ""
        out.print(escape(f"  {what}"), soft_wrap=True)
        if row["repository"]:
            out.print(escape(f"    from {row['repository']}"), soft_wrap=True)
        for volume in row["volumes"]:
            out.print("    keeps {of}: {count} x {gib} GiB".format(**volume))
    out.print(f"Volumes of {found['gib']} GiB in all, and our image on each node.")
    for image, where in found.get("images", {}).items():
        out.print(escape(f"  {image}, {where}"), soft_wrap=True)


def _described(done: RolledOut) -> dict[str, Any]:
    return {
        "changed": done.changed,
        "context": done.cluster.context,
        "namespace": done.cluster.namespace,
        "kubeconfig": str(done.cluster.kubeconfig or ""),
        "phases": done.phases,
        "proof": [asdict(arrival) for arrival in done.proved.arrivals],
        "origin": dict(done.proved.origin),
        "acknowledged": done.proved.acknowledged,
        "heard_seconds": dict(done.proved.heard),
        "pages": dict(done.pages),
        **_described_dashboards(done),
    }


def _described_dashboards(done: RolledOut) -> dict[str, Any]:
    if done.dashboards is None:
        return {}
    said = {"taken": done.dashboards.kind, "why": done.dashboards.why}
    shown = asdict(done.proved.shown) if done.proved.shown else None
    return {"dashboards": {**said, "shown": shown, "unshown": done.proved.unshown}}


def _print_dashboards(done: RolledOut) -> None:
    if done.dashboards is not None:
        out.print(escape(done.dashboards.told), soft_wrap=True)
    if done.proved.shown is not None:
        _print_shown(asdict(done.proved.shown))
    if done.proved.unshown:
        _print_unshown(done.proved.unshown)


def _print_shown(shown: Mapping[str, Any]) -> None:
    counted = f"{len(shown['dashboards'])} dashboards, answers from {', '.join(shown['sources'])}"
    said = f"Grafana {shown['version']} has {counted}. {shown['lacks']}"
    out.print(escape(said.strip()), soft_wrap=True)


def _print_unshown(why: str) -> None:
    out.print(escape(f"Grafana, which nobody asked for, was not proved: {why}"), soft_wrap=True)


def _print_bundle(made: Archive) -> None:
    nodes = [made.node] if made.node else []
    size = made.file.stat().st_size / 1e6
    said = f"Wrote {made.file}: {size:.0f} MB. In it are {_packed(made)}, values and:"
    out.print(escape(said), soft_wrap=True)
    for image in [*made.images, *nodes]:
        known = f"{image.id[:19]}, {image.size_bytes / 1e6:.0f} MB unpacked"
        out.print(escape(f"  {image.name} ({known})"), soft_wrap=True)
    if not nodes:
        said = "It has no image for the nodes of a new cluster of kind; --image would put one in."
        out.print(said, soft_wrap=True)
    out.print(f"It is for this code: harness {made.version} ({made.fingerprint}).\n")
    following = [
        f"harness up --target kind{_profiled(made)} --bundle {made.file} needs no internet;",
        f"harness images push --registry PREFIX --bundle {made.file} serves existing clusters.",
    ]
    out.print(escape(f"Next: {' '.join(following)}"), soft_wrap=True)


def _packed(made: Archive) -> str:
    """The charts in it, as they are told."""
    named = [Path(name).stem for name in made.files if name.endswith(".tgz")]
    return f"the charts {', '.join(sorted(named))}, ours" if named else "the chart"


def _profiled(made: Archive) -> str:
    return f" --profile {made.profile}" if made.profile != Options.profile else ""


def _print_status(found: dict[str, Any], options: Options) -> None:
    shown = Table("node", "ready", "agents", "heard", "kernel", box=None, pad_edge=False)
    for node in found["nodes"]:
        heard = f"{node['heard_seconds']:.0f} s ago" if "heard_seconds" in node else ""
        states = (_said(node["ready"]), _said(node["agents_ready"]), heard)
        shown.add_row(node["name"], *states, node["kernel"])
    for name, release in found.get("releases", {}).items():
        if release is None or release["status"] != "deployed":
            how = "not there" if release is None else release["status"]
            out.print(escape(f"The release {name} is {how}."), soft_wrap=True)
    out.print(shown)
    _print_machines(found)
    shown = Table("\npod", "\nready", "\nrestarts", "\nnode", box=None, pad_edge=False)
    for pod in found["pods"]:
        restarts = f"{pod['restarts']} ({pod['last_end']})" if pod["last_end"] else pod["restarts"]
        shown.add_row(pod["name"], _said(pod["ready"]), str(restarts), pod["node"])
    out.print(shown)
    _print_keepers(found)
    if "unproved" in found:
        out.print(escape(f"It was not proved: {found['unproved']}"), soft_wrap=True)
    for signal, (backend, seconds) in found.get("proof", {}).items():
        out.print(f"One request's {signal}: found in {backend} after {seconds:.1f} s")
    external.show(found.get("acknowledged", 0))
    _print_pod(found.get("origin", {}))
    if "shown" in found:
        _print_shown(found["shown"])
    if "unshown" in found:
        _print_unshown(found["unshown"])
    for said in found.get("amiss", ()):
        out.print(escape(said), soft_wrap=True)
    for each in found["troubles"]:
        out.print(escape(f"{each['pod']}: {each['reason']}: {each['message']}"), soft_wrap=True)
    out.print("\nIt is ready." if found["ready"] else "\nIt is not ready.")
    if found["ready"] and "acknowledged" not in found:
        there = {*found.get("keeps", {}).values(), found.get("dashboards")}
        known = machines.of(options).pages(options).items()
        names = ", ".join(name for name, page in known if not page.added or name in there)
        said = f"Next: harness open NAME {_where(options)} opens a page: {names}."
        out.print(escape(said), soft_wrap=True)


def _print_pod(origin: Mapping[str, str]) -> None:
    if origin:
        where = "/".join(origin.get(f"k8s.{of}.name", "") for of in ("namespace", "pod"))
        out.print(escape(f"Its span says where it was made: pod {where}"), soft_wrap=True)


def _said(true: bool) -> str:
    return "yes" if true else "no"
