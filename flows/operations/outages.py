"""What a Prefect server that is away makes its client raise."""

import httpx
from prefect.exceptions import PrefectHTTPStatusError

UNREACHABLE: tuple[type[Exception], ...] = (OSError, httpx.HTTPError, PrefectHTTPStatusError)
"""No connection, no answer in time, or the answer that something is wrong there."""
