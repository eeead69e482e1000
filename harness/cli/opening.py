"""`harness open`: a page of the stack, on this machine or in a cluster."""

from __future__ import annotations

import difflib
import os
import webbrowser
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from harness.cli.cluster import refuse, tell
from harness.cli.profile import Profile
from harness.cli.rollout import Context, Kubeconfig, Name, Namespace, Target
from harness.cli.screen import errors, out
from harness.errors import InputError, NeedError
from harness.linux.stop_signals import interruptible
from harness.stack import catalog, ledger, lifecycle
from harness.stack.config import GRAFANA_PASSWORD
from harness.targets.kubernetes import chosen, pages, profiles, rollout
from harness.targets.kubernetes.chosen import Options
from harness.targets.kubernetes.pages import Page
from harness.targets.vm import rollout as machines

_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")
_INNER = "otelcol"  # which has no page


def _completed(begun: str) -> list[str]:
    return [name for name in _names() if name.startswith(begun)]


def _names() -> list[str]:
    """All that may be opened anywhere."""
    return [name for name in catalog.known() if name != _INNER]


@errors
def open_command(
    page: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="prometheus, jaeger, victorialogs, grafana, ...: what is to be seen.",
            autocompletion=_completed,
        ),
    ],
    target: Target = "local",
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=1,
            max=65535,
            metavar="N",
            help="In a cluster: the port here.",
            show_default="the page's own",
        ),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print where it is, and no more.")
    ] = False,
    name: Name = "harness",
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    namespace: Namespace = "harness",
    profile: Profile = "poc",
) -> None:
    """Say where a page of the stack is, and open it where there is a screen.

    In a cluster it is reached through the API from 127.0.0.1, until Ctrl-C, also when its pod is
    replaced meanwhile.

    Examples:

      harness open prometheus

      harness open jaeger --target kind

      harness open grafana --target existing --context my-cluster --profile production --port 8080
    """
    if target == "local":
        refuse({"port": port, "profile": profile != Options.profile}, target)
        _open_here(page, no_browser)
        return
    options = Options(
        target, name, kubeconfig=kubeconfig, context=context, namespace=namespace, profile=profile
    )
    _hold(options, page, port, no_browser)


def _open_here(page: str, no_browser: bool) -> None:
    """Where the stack of this machine has it; it is there as long as that is up."""
    now = ledger.state()
    if now is None:
        raise NeedError("The stack is not up.", next_step="Start it: harness up.")
    there = [one.name for one in now.components if one.name in _names()]
    _require_known(page, there, "harness up --plan says which components could be had.")
    url = lifecycle.standing(now).url(page) + rollout.PATHS.get(page, "/")
    if page == "grafana":
        tell(f"The user is admin, the password is in {Path(now.folder) / GRAFANA_PASSWORD}")
    _show(url, no_browser)


def _hold(options: Options, page: str, port: int | None, no_browser: bool) -> None:
    """In a cluster: until one is told to stop."""
    known = machines.of(options).pages(options)
    others = [name for name, each in profiles.PROFILES.items() if page in each.pages(options)]
    hint = f"It is in the profile {others[0]}: --profile {others[0]}." if others else ""
    _require_known(page, known, hint)
    found, shown = known[page], list[str]()
    try:
        with interruptible():
            cluster = chosen.found(options, ["kubectl"])
            here = found.here if port is None else port
            pages.require(cluster, found, here)
            if command := found.password(cluster):
                tell(f"The user is {found.user}, the password is told by: {command}")

            def reached() -> None:
                shown.append(found.url(here))
                _reached(found, here, no_browser)

            pages.hold(cluster, found, here, reached, tell)
    except KeyboardInterrupt:
        if not shown:  # it was given up before there was anything to see
            raise


def _reached(page: Page, port: int, no_browser: bool) -> None:
    _show(page.url(port), no_browser)
    tell("It is there until Ctrl-C.")


def _show(url: str, no_browser: bool) -> None:
    out.print(escape(url), soft_wrap=True)
    if not no_browser and any(os.environ.get(name) for name in _DISPLAYS):
        webbrowser.open(url)


def _require_known(page: str, known: Iterable[str], hint: str) -> None:
    """InputError with the nearest name if there is no such page."""
    names = list(known)
    if page in names:
        return
    near = difflib.get_close_matches(page, names, 1)
    raise InputError(
        f"The stack has no page {page!r}.",
        f"It has: {', '.join(names)}.",
        f"Did you mean {near[0]}?" if near else hint or "Take one of these.",
    )
