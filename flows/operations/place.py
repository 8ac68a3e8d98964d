"""Where the Prefect server is."""

from shoes.settings import Settings


def api_url(settings: Settings) -> str | None:
    """Address of the API of the server in use, the team's or that of `shoes up`; None while none answers."""
    import httpx

    address = settings.prefect_api_url or f"http://{settings.visible_host}:{settings.prefect_port}/api"
    try:
        return address if httpx.get(f"{address}/health", timeout=3).is_success else None
    except httpx.HTTPError:
        return None
