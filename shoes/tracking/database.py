"""MLflow's SQLite file, made as a whole or not at all.

MLflow makes its tables by some fifty migrations, none of which SQLite can take back. A process that dies between two of
them would leave a file that no later start can finish, and so the first start works on a file of another name.
"""

import os
from contextlib import closing
from pathlib import Path

from filelock import FileLock

from shoes import blank
from shoes.durability import connect, sync_path

_PREFIX = "sqlite:///"


def make_database(tracking_uri: str) -> None:
    """Make the database of a SQLite URI where it is not there yet; leave all others alone."""
    if not tracking_uri.startswith(_PREFIX):
        return
    file = Path(tracking_uri.removeprefix(_PREFIX))
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):  # one process makes it, another waits for it
        if not file.exists():
            _remove_leftovers(file)
            _make(file)


def _make(file: Path) -> None:
    partial = file.with_name(f"{_leftover(file)}{os.getpid()}")
    artifacts = (file.parent / "artifacts").as_uri()
    if not blank.copy("mlflow", partial):
        _migrate(partial, artifacts)
        blank.keep("mlflow", partial)
    with closing(connect(partial)) as base, base:
        # MLflow's own experiment "Default", the only row with a place in it
        base.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0", [f"{artifacts}/0"])
    sync_path(partial)
    partial.replace(file)
    sync_path(file.parent)


def _migrate(partial: Path, artifacts: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(f"{_PREFIX}{partial}", artifacts)
    store.engine.dispose()  # SQLite's own files beside it are gone with the last connection


def _leftover(file: Path) -> str:
    return f".partial-{file.name}-"


def _remove_leftovers(file: Path) -> None:
    """What processes left that died; called by the one that holds the lock."""
    for path in file.parent.glob(f"{_leftover(file)}*"):
        path.unlink(missing_ok=True)
