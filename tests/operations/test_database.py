"""Prefect's database is there as a whole or not at all: a process that dies while it makes it ruins nothing."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib import metadata
from pathlib import Path

import pytest

from flows.operations import database
from flows.operations.database import NAME, make_database
from shoes.settings import PROJECT_ROOT

DIE_AT_A_MIGRATION = """
import os, pathlib, signal, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine

@event.listens_for(Engine, "before_cursor_execute")
def count(connection, cursor, statement, *_):
    if "alembic_version" in statement and sys.argv[2] in statement + str(_):
        os.kill(os.getpid(), signal.SIGKILL)

from flows.operations import database
from flows.operations.database import _migrate
_migrate(pathlib.Path(sys.argv[1]))
"""


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, env=environment)


def version(file: Path) -> str:
    with closing(sqlite3.connect(file)) as base:
        return base.execute("SELECT version_num FROM alembic_version").fetchone()[0]


@pytest.fixture
def no_blanks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation that has made no database yet; the folder of its blanks."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "python"))
    return tmp_path / "python" / "share" / "shoes"


def tables(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as base:
        return sorted(base.iterdump())


MIGRATION = "22b7cb02e593"
"""It commits in its middle, and Prefect can't go on from there ("duplicate column name")."""


def test_killed_while_it_is_made_it_is_made_by_the_next_and_once_for_all(
    tmp_path: Path, no_blanks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "first"
    home.mkdir()
    left = home / f".partial-{NAME}-1"
    killed = run("-c", DIE_AT_A_MIGRATION, str(left), MIGRATION)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert run("-m", "flows.operations.database", str(left)).returncode != 0, "what was left is of no use"
    make_database(home)
    assert sorted(path.name for path in home.iterdir()) == ["prefect.db", "prefect.lock"], "nothing is left over"
    before = version(home / NAME)
    assert run("-m", "flows.operations.database", str(home / NAME)).returncode == 0
    assert version(home / NAME) == before, "a server that starts finds nothing to do"
    (kept,) = no_blanks.iterdir()
    assert f"prefect-{metadata.version('prefect')}-" in kept.name, "another Prefect makes its own"
    monkeypatch.setattr(database, "_migrate_in_a_process", None)
    make_database(tmp_path / "second")
    assert [path.name for path in (tmp_path / "second").iterdir() if path.suffix != ".lock"] == [NAME]
    assert tables(tmp_path / "second" / NAME) == tables(tmp_path / "first" / NAME)


def test_what_is_there_and_what_a_person_chose_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NAME).write_bytes(b"mine")
    make_database(tmp_path)
    assert (tmp_path / NAME).read_bytes() == b"mine"
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://somewhere/else")
    make_database(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_where_no_blank_can_be_kept_each_folder_makes_its_own(
    tmp_path: Path, no_blanks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_migrate_in_a_process", lambda partial, file: partial.write_bytes(b"tables"))
    no_blanks.parent.mkdir(parents=True)
    no_blanks.write_bytes(b"a file where the folder should be")
    make_database(tmp_path / "home")
    assert (tmp_path / "home" / NAME).read_bytes() == b"tables"
