"""Prefect's SQLite file, made as a whole or not at all.

Prefect makes its tables by some hundred migrations, a few of which SQLite can't take back. A process that dies in one
of those would leave a file with which no later server starts, and so the first start works on a file of another name.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from filelock import FileLock

from shoes import blank
from shoes.durability import connect, sync_path
from shoes.errors import ShoesError
from shoes.settings import PROJECT_ROOT

NAME = "prefect.db"
_ADDRESSES = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
"""Variables by which a person has chosen another database."""


def is_missing(home: Path) -> bool:
    """A server of this folder has no database yet, and nobody has named another one."""
    return not (home / NAME).exists() and not any(os.environ.get(name) for name in _ADDRESSES)


def make_database(home: Path) -> None:
    """Make the database of a Prefect server of this machine where it is not there yet.

    Nothing is done where a person has named another database.

    Args:
        home: PREFECT_HOME of the server.

    Raises:
        ShoesError: it can't be made; with what Prefect said.
    """
    file = home / NAME
    if not is_missing(home):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):  # one process makes it, another waits for it
        if not file.exists():
            _remove(_leftovers(file))
            _make(file)


def _make(file: Path) -> None:
    partial = file.with_name(f".partial-{file.name}-{os.getpid()}")
    if not blank.copy("prefect", partial):
        _migrate_in_a_process(partial, file)
        blank.keep("prefect", partial)
    sync_path(partial)
    partial.replace(file)
    sync_path(file.parent)


def _migrate_in_a_process(partial: Path, file: Path) -> None:
    # a process of its own: Prefect looks for its database once, and would keep to the file of the other name
    command = [sys.executable, "-m", "flows.operations.database", str(partial)]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        _remove(_leftovers(file))
        said = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise ShoesError(f"Prefect's database {file} can't be made:\n{said}")
    with closing(connect(partial)) as base:
        base.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # all of it is in the one file that is renamed


def _leftovers(file: Path) -> list[Path]:
    """What processes left that died, with the files that SQLite has beside its own."""
    return list(file.parent.glob(f".partial-{file.name}-*"))


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _migrate(file: Path) -> None:
    """What the process does: Prefect's own way to make a database."""
    os.environ[_ADDRESSES[0]] = f"sqlite+aiosqlite:///{file}"
    from prefect.server.database import provide_database_interface

    asyncio.run(provide_database_interface().create_db())


if __name__ == "__main__":
    _migrate(Path(sys.argv[1]))
