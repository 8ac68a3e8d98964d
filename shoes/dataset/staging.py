"""Squares that an import has made so far, kept beside the data set to be, so that a killed import goes on.

`.importing-<name>/` holds the squares and one line about each: the SHA-256 of the photo that it was made of
and of the square itself, and what was measured. A square counts only when both hashes are still right.
Imports NumPy and Pillow: import it when writing.
"""

import base64
import json
import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import PIL
from filelock import FileLock, Timeout

from shoes.dataset.groups import Look
from shoes.errors import Busy
from shoes.storage import canonical_json, sha256

log = logging.getLogger(__name__)
FORMAT = 1
"""Raised with every change that makes other squares of the same photos, or measures them in another way."""


@dataclass(frozen=True)
class Measured:
    """A square that was written, and what is known of it."""

    look: Look
    size: tuple[int, int]
    """Width and height of the photo that it was made of, upright."""
    square_sha256: str


class Staging:
    """The squares of one import, of one resolution."""

    def __init__(self, folder: Path, resolution: int) -> None:
        self.folder = folder
        self.squares = folder / "squares"
        self._lines = folder / "squares.jsonl"
        # Other versions of Pillow may encode other bytes of equal pixels.
        head = canonical_json({"format": FORMAT, "pillow": PIL.__version__, "resolution": resolution})
        found = self._read(head)
        if found is None:
            shutil.rmtree(self.squares, ignore_errors=True)
            self._lines.write_text(head + "\n", encoding="utf-8")
        self._found = found or {}
        self.squares.mkdir(exist_ok=True)
        self._file = self._lines.open("a", encoding="utf-8")
        self._file.write("\n")  # behind a line that a crash cut off
        self._writing = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __contains__(self, product_id: object) -> bool:
        """Whether an earlier import left this product's square here, right or not."""
        return product_id in self._found

    def path(self, product_id: str) -> Path:
        """Where a product's square is."""
        return self.squares / f"{product_id}.png"

    def find(self, product_id: str, photo_sha256: str) -> Measured | None:
        """The square that was made of this very photo, if it is still whole."""
        found = self._found.get(product_id)
        if found is None or found.get("photo") != photo_sha256:
            return None
        try:
            measured = _measured(found)
            return measured if sha256(self.path(product_id)) == measured.square_sha256 else None
        except (OSError, KeyError, TypeError, ValueError):
            return None

    def write(self, product_id: str, png: bytes) -> None:
        """Write a square; an older one may be linked into a data set, so it is replaced and not changed."""
        partial = self.squares / f"{product_id}.partial"
        partial.write_bytes(png)
        partial.replace(self.path(product_id))

    def keep(self, product_id: str, photo_sha256: str, measured: Measured) -> None:
        """Note a square that was just written."""
        line = {
            "id": product_id,
            "photo": photo_sha256,
            "square": measured.square_sha256,
            "size": measured.size,
            "phash": measured.look.phash,
            "thumbnail": base64.b64encode(measured.look.thumbnail.astype("<f4").tobytes()).decode(),
        }
        with self._writing:
            self._file.write(canonical_json(line) + "\n")
            self._file.flush()

    def _read(self, head: str) -> dict[str, dict[str, Any]] | None:
        """The lines by product; nothing when they are of another import."""
        try:
            first, *lines = self._lines.read_text(encoding="utf-8", errors="replace").split("\n")
        except FileNotFoundError:
            return None
        if first != head:
            return None
        found: dict[str, dict[str, Any]] = {}
        for text in lines:
            with suppress(ValueError, TypeError, KeyError, RecursionError):  # a line that a crash cut off
                line = json.loads(text)
                found[line["id"]] = line
        return found


@contextmanager
def staging(target: Path, resolution: int) -> Iterator[Staging]:
    """The staging folder of `target`, for one import at a time.

    It is removed when the block ends or fails; a kill or Ctrl-C leaves it, to go on from.

    Raises:
        Busy: another process imports to the same place.
    """
    folder = target.with_name(f".importing-{target.name}")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise Busy(f"Another process imports to {target}. Wait for it, or stop it.") from error
    try:
        with Staging(folder, resolution) as opened:
            yield opened
    except KeyboardInterrupt:
        log.info("what is done is kept in %s: the same import goes on from there", folder)
        raise
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()


def _measured(line: dict[str, Any]) -> Measured:
    thumbnail = np.frombuffer(base64.b64decode(line["thumbnail"], validate=True), dtype="<f4")
    look = Look(phash=int(line["phash"]), thumbnail=thumbnail.reshape(16, 16, 3).astype(np.float32))
    width, height = line["size"]
    return Measured(look, (int(width), int(height)), str(line["square"]))
