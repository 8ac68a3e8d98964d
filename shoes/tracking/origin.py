"""Which data folder a run belongs to.

Machines of a team may train the very same thing, and each has a run of its own in their store.
"""

import uuid
from pathlib import Path

from filelock import FileLock

from shoes.storage import write_text

FILE = "origin"


def origin(folder: Path) -> str:
    """The name of a data folder among all others, kept in its `mlruns`: made at the first call, and never changed."""
    file = folder / FILE
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            if not file.exists():
                write_text(file, uuid.uuid4().hex)
    return file.read_text(encoding="utf-8")
