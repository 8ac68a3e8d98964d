"""Files that are either whole or not there: atomic writes, hashes and manifests.

A folder is written under a temporary name beside its target, every file is synced, and one rename makes
it appear. A folder with a manifest holds the SHA-256 of each of its other files; one without a valid
manifest does not count.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel

from shoes.durability import sync_path, sync_together
from shoes.identity import identity
from shoes.litter import has_litter, without_litter

MANIFEST = "manifest.json"
_PARTIAL = ".partial-"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The disk is full, the person's share of it is, or a file may not grow any more."""


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """JSON that is equal for equal values: sorted keys, no spaces, models as their fields."""

    def plain(item: Any) -> Any:
        if isinstance(item, BaseModel):
            return item.model_dump(mode="json")
        if isinstance(item, Path):
            return str(item)
        raise TypeError(f"{type(item).__name__} has no canonical JSON")

    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=plain)


def fingerprint(*parts: Any) -> str:
    """Name of a result: the first 16 hex digits of the SHA-256 of its inputs' canonical JSON.

    Models count as their `identity`, so that a field which is added to one leaves the names of former results alone.
    """
    return hashlib.sha256(canonical_json(identity(parts)).encode()).hexdigest()[:16]


def pretty_json(value: Any) -> str:
    """Stable JSON for people to read, ending in a newline."""
    return json.dumps(json.loads(canonical_json(value)), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Replace a file by `text`, atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file by `content`, atomically: where that fails, the former file is there and nothing else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{_PARTIAL}{path.name}-{os.getpid()}")
    try:
        partial.write_bytes(content)
        sync_path(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_path(path.parent)


@contextmanager
def new_folder(target: Path, *, manifest: bool = True) -> Iterator[Path]:
    """Yield a temporary folder; when the block ends without an error it becomes `target`.

    An existing `target` is replaced. Leftovers of writers that died are removed first, so `target` must
    have one writer at a time. With `manifest`, the SHA-256 of all files is written beside them.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    partial = target.with_name(f"{_PARTIAL}{target.name}-{os.getpid()}")
    partial.mkdir()
    try:
        yield partial
        if manifest:
            (partial / MANIFEST).write_text(pretty_json({"files": hash_files(partial)}), encoding="utf-8")
        _sync_tree(partial)
        _replace_folder(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_leftovers(target: Path) -> None:
    """Remove what writers of `target` left behind when they died."""
    name = re.compile(re.escape(f"{_PARTIAL}{target.name}-") + r"(old-)?\d+")
    for leftover in target.parent.glob(f"{_PARTIAL}*"):
        if name.fullmatch(leftover.name):  # not one of `target-2`, whose writer may be at work
            remove_path(leftover)


def leftovers(folder: Path) -> list[Path]:
    """What writers left anywhere below `folder` when they died; those whose process lives are left alone."""
    import psutil

    found = {path: path.name.rpartition("-")[2] for path in folder.rglob(f"{_PARTIAL}*")}
    dead = {path for path, pid in found.items() if pid.isdigit() and not psutil.pid_exists(int(pid))}
    return sorted(path for path in dead if dead.isdisjoint(path.parents))


def remove_path(path: Path) -> None:
    """Remove a file, or a folder so that half of it never looks whole: its manifest first."""
    if path.is_dir() and not path.is_symlink():
        (path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; 0 when it is not there."""
    files = without_litter(path.rglob("*"), path) if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def where_now(path: Path, folder: Path) -> Path:
    """A path that was written down when it lay below `folder`, wherever that was then: on another drive or machine."""
    parts = path.parts
    if path.is_relative_to(folder) or folder.name not in parts:
        return path
    behind = len(parts) - parts[::-1].index(folder.name)
    return folder.joinpath(*parts[behind:])


def found_below(folder: Path, path: Path) -> Path:
    """What is below `folder` at the longest end of a path, of two names at least; the path itself if nothing is."""
    ends = (folder.joinpath(*path.parts[first:]) for first in range(1, len(path.parts) - 1))
    return next((end for end in ends if end.exists()), path)


def placed_anew(content: Any, former: Path, here: Path) -> Any:
    """JSON whose paths below one folder begin at another."""
    if isinstance(content, dict):
        return {name: placed_anew(value, former, here) for name, value in content.items()}
    if isinstance(content, list):
        return [placed_anew(value, former, here) for value in content]
    if isinstance(content, str) and (content == str(former) or content.startswith(f"{former}/")):
        return f"{here}{content.removeprefix(str(former))}"
    return content


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that there is no room to write.

    Libraries that are not written in Python, and SQLite, say so in words only: they put the system's text for the
    error number into theirs.
    """
    words = [os.strerror(number).lower() for number in _NO_ROOM] + ["disk is full"]
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno is not None:
            if seen.errno in _NO_ROOM:
                return True
        elif any(text in str(seen).lower() for text in words):
            return True
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return False


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder` by POSIX path, sorted; without its manifest and what systems leave there."""
    files = sorted(p for p in without_litter(folder.rglob("*"), folder) if p.is_file() and p != folder / MANIFEST)
    return {file.relative_to(folder).as_posix(): sha256(file) for file in files}


def damage(folder: Path) -> list[str]:
    """What is wrong with a folder according to its manifest; an empty list means that it is whole."""
    try:
        expected = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        if not isinstance(expected, dict):
            raise TypeError("files is no object")
    except FileNotFoundError:
        return [f"{folder / MANIFEST} is missing"]
    except (ValueError, KeyError, TypeError) as error:
        return [f"{folder / MANIFEST} can't be read: {error}"]
    found = {_spelled(name): digest for name, digest in hash_files(folder).items()}
    return [
        f"{folder / name} is missing" if _spelled(name) not in found else f"{folder / name} has other bytes than it had"
        for name, digest in expected.items()
        if found.get(_spelled(name)) != digest and not has_litter(PurePosixPath(name))
    ]


def _spelled(name: str) -> str:
    """A name in one spelling: a drive of a Mac may give back `é` as `e` with an accent."""
    return unicodedata.normalize("NFC", name)


def is_whole(folder: Path) -> bool:
    """The folder is there and every file in its manifest has its hash."""
    return folder.is_dir() and not damage(folder)


def _sync_tree(folder: Path) -> None:
    sync_together(sorted(without_litter(folder.rglob("*"), folder), reverse=True), folder)


def _replace_folder(partial: Path, target: Path) -> None:
    """Rename `partial` to `target`; rename does not replace a folder that has files, so move it away first."""
    doomed = target.with_name(f"{_PARTIAL}{target.name}-old-{os.getpid()}")
    with suppress(FileNotFoundError):
        target.rename(doomed)
    try:
        partial.rename(target)
        sync_path(target.parent)
    except BaseException:
        _put_back(partial, target, doomed)
        raise
    shutil.rmtree(doomed, ignore_errors=True)


def _put_back(partial: Path, target: Path, former: Path) -> None:
    """Undo the renames as far as they came."""
    for source, goal in ((target, partial), (former, target)):
        with suppress(FileNotFoundError):
            source.rename(goal)
