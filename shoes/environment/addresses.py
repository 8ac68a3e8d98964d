"""Servers: whether one answers, and how its address may be shown."""

import base64
import urllib.error
import urllib.request
from urllib.parse import urlsplit, urlunsplit

TIMEOUT_SECONDS = 5.0


def without_secrets(address: str) -> str:
    """An address without user, password and query: what may be printed and logged."""
    try:
        parts = urlsplit(address)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return address.partition("://")[0] + "://…"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))


def status(address: str, user_and_password: str = "") -> int | None:
    """HTTP status that a server answers with; nothing if it does not answer.

    Args:
        user_and_password: with a colon between them; sent if given.
    """
    request = urllib.request.Request(address)
    if user_and_password:
        token = base64.b64encode(user_and_password.encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError):
        return None


def answers(address: str) -> bool:
    """A server is there: it gives any answer but one of its own failures (5xx).

    User and password are not sent: a refusal is an answer.
    """
    try:
        with urllib.request.urlopen(without_secrets(address), timeout=TIMEOUT_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, ValueError):
        return False
