"""Blank databases: SQLite files with all tables and nothing in them, kept beside this Python for the next folder.

Prefect and MLflow make their tables by dozens of migrations, which take as long as all the rest of a start. They are
done once for each installation.
"""

import shutil
import sqlite3
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from shoes.storage import write_bytes


def place(package: str) -> Path:
    """Where this installation keeps the blank of a package; another version of it or of SQLite has its own."""
    name = f"{package}-{version(package)}-sqlite-{sqlite3.sqlite_version}.db"
    return Path(sys.prefix) / "share" / "shoes" / name


def copy(package: str, target: Path) -> bool:
    """Begin `target` as the package's blank; whether there is one."""
    if place(package).exists():
        shutil.copyfile(place(package), target)
        return True
    return False


def keep(package: str, made: Path) -> None:
    """Keep the file that a package has made, with nothing in it yet, as its blank."""
    with suppress(OSError):  # a Python that is not ours to write to: the next folder takes as long as this one
        write_bytes(place(package), made.read_bytes())
