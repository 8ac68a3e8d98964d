"""The nightly deployments, on a real Prefect server."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.operations.nightly import deploy


@pytest.fixture
def client(prefect: None) -> Iterator[Any]:
    """A client of a server on which the nightly deployments stand as prefect.yaml registers them."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as found:
        for deployment in found.read_deployments():
            found.delete_deployment(deployment.id)
        deploy(found)
        yield found
