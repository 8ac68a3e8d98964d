"""The local network, which macOS keeps programs from until a person allows it.

From macOS 15 on a program that launchd has started reaches no address of the local network before somebody has allowed
it at the screen. The system says "No route to host", as it does of a machine that is off.
"""

import errno
import ipaddress
import platform
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

LOCAL_NETWORK = (
    "macOS 15 and later keep a program that starts by itself from it until you allow Python at the screen: System "
    "Settings → Privacy & Security → Local Network"
)
_NO_ROUTE = "no route to host"
_ADDRESS = re.compile(r"host='([^']+)'|https?://([^/\s'\"]+)")
"""As requests, urllib3 and httpx write it into their messages."""


def host_of(address: str) -> str:
    """The host of an address; empty where there is none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def is_local(host: str) -> bool:
    """A host is in the local network, by its name or its address; this machine itself is not meant."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.lower().rstrip(".")
        is_bare = bool(name) and "." not in name and name != "localhost"
        return is_bare or name.endswith((".local", ".lan", ".home", ".internal", ".fritz.box", ".home.arpa"))
    return not address.is_loopback and (address.is_private or address.is_link_local)


def advice(error: BaseException | None, *, system: str | None = None) -> str:
    """What to do where macOS may have kept this program from the local network; empty where that is not the reason.

    Args:
        error: with those that it came from.
        system: as `platform.system()` names it; None: this one.
    """
    if (system or platform.system()) != "Darwin":
        return ""
    found = list(_chain(error))
    is_denied = any(getattr(one, "errno", None) == errno.EHOSTUNREACH or _NO_ROUTE in str(one).lower() for one in found)
    hosts = {host for one in found for host in _hosts(one)}
    return LOCAL_NETWORK if is_denied and (not hosts or any(map(is_local, hosts))) else ""


def _hosts(error: BaseException) -> Iterator[str]:
    """Hosts that an error speaks of."""
    for name, address in _ADDRESS.findall(str(error)):
        yield name or host_of(f"//{address}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
