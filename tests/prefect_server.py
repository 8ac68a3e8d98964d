"""One Prefect server for all tests of this process: each file of tests finds it as blank as on its first day."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import asking


@pytest.fixture(scope="session")
def prefect_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Prefect's own server for tests (`prefect.server.api.server.SubprocessASGIServer`), with an address."""
    from prefect import settings
    from prefect.server.api.server import SubprocessASGIServer

    from tests.world import free_port

    home = tmp_path_factory.mktemp("prefect")
    database = {settings.PREFECT_SERVER_DATABASE_CONNECTION_URL: blank_database(home)}
    with settings.temporary_settings(updates=database):
        server = SubprocessASGIServer(port=free_port())
        server.start(timeout=120)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def prefect(prefect_process: Any) -> Iterator[None]:
    """A Prefect server that has nothing; flows that run in this process tell it of themselves."""
    with talking_to(prefect_process):
        yield
    asking.ask("POST", f"{prefect_process.api_url}/admin/database/clear", json={"confirm": True})


def blank_database(home: Path) -> str:
    """Address of a database with all tables in a folder."""
    from flows.operations.database import NAME, make_database

    make_database(home)
    return f"sqlite+aiosqlite:///{home / NAME}"


@contextmanager
def talking_to(server: Any) -> Iterator[None]:
    """What `prefect.testing.utilities.prefect_test_harness` does with a server of its own."""
    from prefect import context, settings

    instances = type(server)._instances
    instances[None] = server  # what asks for any server of this process gets this one
    with (
        settings.temporary_settings(updates={settings.PREFECT_API_URL: server.api_url}),
        context._temporary_global_settings_context(context.get_settings_context()),
    ):
        yield
        _send_what_is_left()
    instances.pop(None, None)


def _send_what_is_left() -> None:
    import inspect

    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker
    from prefect.utilities.asyncutils import run_coro_as_sync

    async def drain() -> None:
        for found in (APILogWorker.instance().drain(), EventsWorker.drain_all()):
            if inspect.isawaitable(found):
                await found

    run_coro_as_sync(drain())
