"""Servers of a test are asked as a patient client asks: what is busy answers later, and is not broken."""

import ssl
import time
from functools import cache
from typing import Any

import httpx2 as httpx

BUSY = 503
"""What Prefect's server says while its database is locked; its own client asks again, too."""
SECONDS_FOR_AN_ANSWER = 60.0
_SECONDS = 300


def get(address: str, **options: Any) -> Any:
    """The JSON at an address."""
    return ask("GET", address, **options).json()


def post(address: str, body: object, **options: Any) -> Any:
    """The answer in JSON to a body in JSON. A body that filters may be asked for twice, any other is sent once."""
    return ask("POST", address, json=body, **options).json()


def ask(method: str, address: str, **options: Any) -> httpx.Response:
    """A response that tells success."""
    end = time.monotonic() + _SECONDS
    asks_only = method == "GET" or address.endswith("/filter")
    while True:
        try:
            response = httpx.request(method, address, timeout=SECONDS_FOR_AN_ANSWER, verify=_certificates(), **options)
        except httpx.TimeoutException:
            if not asks_only or time.monotonic() > end:
                raise
            continue
        if response.status_code != BUSY or time.monotonic() > end:
            assert response.is_success, f"{response.status_code}: {response.text}"
            return response
        time.sleep(0.5)


def answers(address: str) -> bool:
    """Whether somebody says yes there, right now."""
    try:
        return httpx.get(address, timeout=5, verify=_certificates()).is_success
    except httpx.HTTPError:
        return False


@cache
def _certificates() -> ssl.SSLContext:
    """Read once, not at each look."""
    return httpx.create_ssl_context()
