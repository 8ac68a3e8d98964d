"""Folders that can be written to, and free space."""

import os
import shutil
from pathlib import Path
from tempfile import TemporaryFile


def existing_folder(path: Path) -> Path:
    """The path if it is a folder, else the nearest folder above it that is there."""
    while not path.is_dir():
        path = path.parent
    return path


def is_writable(path: Path) -> bool:
    """A file can be made and filled there, or where the folder would be made; nothing is left behind."""
    folder = existing_folder(path)
    if not os.access(folder, os.W_OK | os.X_OK):
        return False
    try:
        with TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
    except OSError:
        return False
    return True


def free_bytes(path: Path) -> int:
    """Free space on the disk of a path that may not be there yet."""
    return shutil.disk_usage(existing_folder(path)).free
