"""Where the Prefect server is."""

from shoes.servers.child import is_healthy
from shoes.servers.record import running
from shoes.settings import Settings


def api_url(settings: Settings) -> str | None:
    """Address of the API of the server in use, the team's or that of `shoes up`; None while none answers."""
    address = known_api(settings)
    return address if address is not None and is_healthy(f"{address.rstrip('/')}/health") else None


def known_api(settings: Settings) -> str | None:
    """The same, whether it answers or not: the one that the settings name, or that of a `shoes up` that is ready."""
    if settings.prefect_api_url:
        return settings.prefect_api_url
    found = running(settings)
    return found.prefect_api if found is not None and found.is_ready else None
