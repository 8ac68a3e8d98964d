"""Where an export may be written: a free place, or an earlier export in which nothing was changed since."""

import json
from pathlib import Path

from shoes.environment.disk import free_bytes, is_writable
from shoes.errors import NotReady, Problem
from shoes.litter import visible
from shoes.progress import size
from shoes.storage import MANIFEST, sha256

MARKER = "export.json"
"""Says of a folder that it is an export, and of what."""
FORMAT = "shoes-export"
SPARE_BYTES = 100_000_000
_SHOWN = 3
_OTHER = "choose another folder with --out, or move this one away"


def place_problems(out: Path) -> list[Problem]:
    """Why nothing can be written to a folder, or must not be; an empty list when it can.

    An earlier export is replaced as a whole. One with files that were added or changed since is not: they would be
    lost.
    """
    if out.exists() and not out.is_dir():
        return [Problem(str(out), "is a file", "name a folder with --out")]
    above = next(parent for parent in out.parents if parent.exists())
    if not above.is_dir() or not is_writable(above):
        return [Problem(str(above), "can't be written to", "name another folder with --out")]
    if not out.is_dir() or not visible_files(out):
        return []
    known = _written(out)
    if known is None:
        return [Problem(str(out), "holds other files and is no earlier export", _OTHER)]
    strange = [path for path in visible_files(out) if path != MANIFEST and sha256(out / path) != known.get(path)]
    if not strange:
        return []
    more = f" and {len(strange) - _SHOWN} others" if len(strange) > _SHOWN else ""
    text = f"is an earlier export in which files were added or changed since: {', '.join(strange[:_SHOWN])}{more}"
    return [Problem(str(out), text, _OTHER)]


def require_room(out: Path, needed: int) -> None:
    """The disk has room for an export.

    Raises:
        NotReady: it has not; nothing was written.
    """
    free = free_bytes(out)
    if free < needed + SPARE_BYTES:
        text = f"{size(free)} are free, and the export needs {size(needed + SPARE_BYTES)}"
        raise NotReady([Problem(str(out), text, "free some space, or name a folder on another disk with --out")])


def visible_files(folder: Path) -> list[str]:
    """Files below a folder by POSIX path, without what systems hide in folders."""
    files = (path for path in visible(folder.rglob("*"), folder) if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files)


def _written(out: Path) -> dict[str, str] | None:
    """Hashes of what an export wrote into a folder; nothing when it is none."""
    try:
        is_export = json.loads((out / MARKER).read_text(encoding="utf-8"))["format"] == FORMAT
        files = json.loads((out / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return files if is_export and isinstance(files, dict) else None
