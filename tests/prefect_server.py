"""One Prefect server for all tests of this process: each file of tests finds it as blank as on its first day."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SQLITE = "sqlite+aiosqlite:///"
KEPT = {"alembic_version", "block_type", "block_schema", "block_schema_reference", "configuration"}


@dataclass(frozen=True)
class Served:
    """A Prefect server, and the database that it is on."""

    server: Any
    """Prefect's own for tests: `prefect.server.api.server.SubprocessASGIServer`."""
    database: str

    @property
    def api(self) -> str:
        """Its address."""
        return str(self.server.api_url)


@pytest.fixture(scope="session")
def prefect_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server itself: who wants to speak with it uses `prefect`."""
    from prefect import settings
    from prefect.server.api.server import SubprocessASGIServer

    from tests.world import free_port

    database = blank_database(tmp_path_factory.mktemp("prefect"))
    server = SubprocessASGIServer(port=free_port())
    with settings.temporary_settings(updates={settings.PREFECT_SERVER_DATABASE_CONNECTION_URL: database}):
        server.start(timeout=120)
    yield Served(server, database)
    logging.disable(logging.INFO)  # Prefect would tell of its end on a stream of a test that is over
    server.stop()
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def prefect(prefect_process: Served) -> Iterator[None]:
    """A Prefect server that has nothing; flows that run in this process tell it of themselves."""
    with talking_to(prefect_process):
        yield
    empty(prefect_process.database)


def blank_database(home: Path) -> str:
    """Address of a database with all tables in a folder."""
    from flows.operations.database import NAME, make_database

    make_database(home)
    return f"{SQLITE}{home / NAME}"


def empty(address: str) -> None:
    """Take out what tests have put in, behind the server's back; what it knows of itself stays."""
    with closing(sqlite3.connect(address.removeprefix(SQLITE), timeout=60)) as database, database:
        tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
        for table in tables - KEPT:
            database.execute(f'delete from "{table}"')


@contextmanager
def talking_to(served: Served) -> Iterator[None]:
    """What `prefect.testing.utilities.prefect_test_harness` does with a server of its own."""
    from prefect import context, settings

    instances = type(served.server)._instances
    instances[None] = served.server  # what asks for any server of this process gets this one
    changes = {
        settings.PREFECT_API_URL: served.api,
        settings.PREFECT_SERVER_DATABASE_CONNECTION_URL: served.database,
    }
    with (
        settings.temporary_settings(updates=changes),
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
