"""MLflow's SQLite file, made as a whole or not at all.

MLflow makes its tables by some fifty migrations, none of which SQLite can take back. A process that dies between two of
them would leave a file that no later start can finish, and so the first start works on a file of another name.
"""

import logging
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from filelock import FileLock

from shoes import blank
from shoes.durability import connect, sync_path

log = logging.getLogger(__name__)
_PREFIX = "sqlite:///"
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Tables and columns of MLflow that hold addresses of artifacts."""


def make_database(tracking_uri: str) -> None:
    """Make the database of a SQLite URI where it is not there yet; leave all others alone.

    One whose folder was carried to another place, on a drive of another name say, finds its artifacts there.
    """
    if not tracking_uri.startswith(_PREFIX):
        return
    file = Path(tracking_uri.removeprefix(_PREFIX))
    if file.exists():
        _follow_its_folder(file)
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


def _follow_its_folder(file: Path) -> None:
    """MLflow keeps where artifacts are as whole addresses: begin them at the folder beside the database again.

    What goes wrong here is left to MLflow, which says it better.
    """
    here = file.parent / "artifacts"
    with suppress(sqlite3.Error), closing(connect(file)) as base, base:
        rows = base.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 0").fetchall()
        former = str(rows[0][0] or "").removesuffix("/0") if rows else ""
        if former == here.as_uri() or not former.startswith("file:///"):
            return
        if not _is_carried(Path(url2pathname(urlsplit(former).path)), here):
            return
        for table, column in _ADDRESSES:
            words = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"
            base.execute(words, [here.as_uri(), len(former) + 1, len(former) + 1, f"{former}/"])
        log.info("MLflow's artifacts were in %s and are found in %s from now on", former, here)


def _is_carried(former: Path, here: Path) -> bool:
    """The folder of artifacts came here from another place, and is not the same under another name."""
    if not former.is_dir():
        return True
    return here.is_dir() and not former.samefile(here)


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
