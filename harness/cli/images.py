"""`harness bundle` and `harness images push`; options for the images of a roll-out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import cluster, keepers
from harness.cli.dashboards import Dashboards
from harness.cli.keepers import Logs, Profiles, Traces
from harness.cli.profile import Charts, Profile, Values
from harness.cli.screen import errors
from harness.errors import InputError
from harness.targets.kubernetes.chosen import Options

BundleFile = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        metavar="FILE",
        help="In a cluster: take images from what `harness bundle` wrote, from nowhere else.",
    ),
]
Registry = Annotated[
    str,
    typer.Option(
        "--registry",
        metavar="PREFIX",
        help="existing: the nodes pull PREFIX/NAME:TAG, as `harness images push` names them.",
    ),
]
PullSecret = Annotated[
    str,
    typer.Option(
        "--pull-secret",
        metavar="NAME",
        help="existing: the Secret in the namespace that the nodes pull images with.",
    ),
]

app = typer.Typer(help="The images of a roll-out in a registry of your own.", no_args_is_help=True)


@errors
def bundle_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What to write; it must not exist.")],
    registry: Annotated[
        str,
        typer.Option(
            "--registry",
            metavar="PREFIX",
            help="Pull what the local docker lacks as PREFIX/NAME:TAG, from a registry of yours.",
        ),
    ] = "",
    image: Annotated[
        str,
        typer.Option(
            "--image",
            metavar="IMAGE",
            help="The image of new nodes of kind, which its release notes name; none if left out.",
        ),
    ] = "",
    dashboards: Dashboards = "",
    traces: Traces = "",
    logs: Logs = "",
    profiles: Profiles = "",
    profile: Profile = "poc",
    charts: Charts = "",
    values: Values = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is in it as JSON.")] = False,
) -> None:
    """Write one file with every image and chart of a roll-out, for where there is no internet.

    Our image is built first, what the local docker lacks is pulled. The charts and their values are
    in the file, too: those of the profile production come from --charts, from what helm has pulled
    already, or from their projects, and helm says which images they run. It goes with this very
    code: bring this folder along, with what is built in it.

    Examples:

      harness bundle harness.tar --image kindest/node:v1.34.0

      harness up --target kind --bundle harness.tar

      harness bundle harness.tar --profiles parca

      harness bundle production.tar --profile production --charts DIR --registry PREFIX
    """
    wanted = Options(
        "kind", image=image, profile=profile, charts=charts, values=tuple(values or ()),
        dashboards=dashboards, keepers=keepers.wanted(traces, logs, profiles),
    )  # fmt: skip
    cluster.bundle(file, wanted, registry, as_json)


@app.command("push")
@errors
def push_command(
    registry: Annotated[
        str,
        typer.Option("--registry", metavar="PREFIX", help="Images become PREFIX/NAME:TAG."),
    ],
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", metavar="FILE", help="Push those that `harness bundle` wrote."),
    ] = None,
    dashboards: Dashboards = "",
    traces: Traces = "",
    logs: Logs = "",
    profiles: Profiles = "",
) -> None:
    """Push every image that `up` needs in a cluster to a registry of your own, with docker.

    A name there is the image's own without its registry: docker.io/prom/prometheus:v3.14.0 becomes
    PREFIX/prom/prometheus:v3.14.0. Without --bundle our image is built first, and what the local
    docker lacks is pulled.

    Examples:

      harness images push --registry registry.example/observability

      harness images push --registry registry.example:5000 --bundle harness.tar
    """
    kept = keepers.wanted(traces, logs, profiles)
    said = [*(["dashboards"] if dashboards else []), *kept]
    if bundle and said:
        raise InputError(
            f"{' and '.join(f'--{each}' for each in said)} does not go with --bundle.",
            "What is in the bundle was said when it was written.",
            "Leave it out.",
        )
    cluster.push(registry, bundle, dashboards, kept)
