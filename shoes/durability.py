"""Files that survive a power cut.

On macOS `fsync` hands data to the drive, which may keep them in its own memory; F_FULLFSYNC has the drive write down
all that it was handed. So many files are handed over one by one, and one full sync behind them holds for all.
"""

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS}
"""What a file system says that has no such call: F_FULLFSYNC on network shares, fsync of a folder on some of them."""


def sync(descriptor: int) -> None:
    """Put an open file on the disk, past the drive's own memory where the system can ask for that.

    Raises:
        OSError: it may not be there.
    """
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(descriptor, full)
            return
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
    os.fsync(descriptor)


def sync_path(path: Path) -> None:
    """Put a file, or what a folder lists, on the disk now; with all that was handed over to its drive before."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED or not path.is_dir():  # some shares can't sync a folder
            raise
    finally:
        os.close(descriptor)


def sync_together(paths: Iterable[Path], folder: Path) -> None:
    """Put many files of one drive on the disk: each is handed over, and `folder` at the end is synced for all."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _UNSUPPORTED or not path.is_dir():
                raise
        finally:
            os.close(descriptor)
    sync_path(folder)


class _Connection(Protocol):
    def cursor(self) -> Any: ...


def sync_fully(connection: _Connection) -> None:
    """Let a SQLite connection use F_FULLFSYNC where the system has it, which by default it does not."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA fullfsync = 1")
    cursor.execute("PRAGMA checkpoint_fullfsync = 1")
    cursor.close()


def connect(file: Path) -> sqlite3.Connection:
    """A SQLite database whose commits survive a power cut."""
    connection = sqlite3.connect(file)
    sync_fully(connection)
    return connection


def make_engines_durable() -> None:
    """Let `sync_fully` hold for every SQLite connection that SQLAlchemy opens in this process from now on."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    if not event.contains(Engine, "connect", _connected):
        event.listen(Engine, "connect", _connected)


def _connected(connection: Any, record: object) -> None:
    del record
    # an asynchronous engine's connection is SQLAlchemy's own, with the driver's inside
    if "sqlite" in type(connection).__module__:
        sync_fully(connection)
