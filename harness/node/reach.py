"""Where load from another node finds the service, as far as that is seen from here; for `block`."""

from __future__ import annotations

from urllib.parse import urlsplit

from harness.errors import InputError
from harness.linux import listeners
from harness.node.scope import check_scope
from harness.node.service import Service
from harness.wire.spec import Elsewhere


def url_from(elsewhere: Elsewhere, service: Service) -> tuple[str, str]:
    """The URL that the load goes to, and what cannot be told of whether it reaches the service.

    InputError where it does not: it leads to loopback, or to somebody else.
    """
    url = elsewhere.url or service.url
    held = listeners.held(service.pids())
    if held and all(each.address.is_loopback for each in held):
        where = " and ".join(sorted(map(str, held))[:3])
        raise _unreachable(elsewhere, f"The service {service.name!r} listens on {where} only.")
    addresses = listeners.resolved(urlsplit(url).hostname or "")
    if addresses and all(each.is_loopback for each in addresses):
        raise _unreachable(elsewhere, f"{url} leads each machine to itself.")
    return url, "" if url == service.url else check_scope(url, service.cgroup)


def _unreachable(elsewhere: Elsewhere, what: str) -> InputError:
    return InputError(
        what,
        f"The load comes from {elsewhere.node}, where a loopback address is its own.",
        f"Let the service listen on an address that {elsewhere.node} reaches, and say that one in "
        "--url, or in --load-url if this machine reaches it by another.",
    )
