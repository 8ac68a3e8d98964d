"""Logs of programs that write for months.

A program writes into its log by itself, at the end, so that it goes on when whoever started it dies. So a log that has
grown is copied and cut, and not renamed: the program knows the file and not its name.
"""

import os
import shutil
from pathlib import Path

MAX_BYTES = 10 * 1024**2
NUM_KEPT = 3


def rotate(log: Path, max_bytes: int = MAX_BYTES, num_kept: int = NUM_KEPT) -> bool:
    """Move what a log holds to `<log>.1`, older ones further on, once it is larger than allowed; whether it was."""
    if not log.exists() or log.stat().st_size <= max_bytes:
        return False
    for number in range(num_kept - 1, 0, -1):
        former = _numbered(log, number)
        if former.exists():
            former.replace(_numbered(log, number + 1))
    shutil.copyfile(log, _numbered(log, 1))
    os.truncate(log, 0)
    return True


def _numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")


def last_lines(log: Path, count: int = 15, max_bytes: int = 16_384) -> str:
    """The end of a log, for a message about the program that wrote it."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - max_bytes))
        text = file.read().decode(errors="replace")
    return "\n".join(line.rstrip() for line in text.splitlines()[-count:])
