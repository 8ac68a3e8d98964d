"""Tables of captions: captions.json as list or as object, metadata.jsonl, metadata.csv."""

import csv
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shoes.errors import DataError, Problem

IMAGE_FIELDS = ("image_file", "file_name", "image", "filename", "file", "image_path", "path")
CAPTION_FIELDS = ("caption", "text", "prompt", "description")
_EXAMPLES = {
    ".json": '[{"image_file": "a.jpg", "caption": "…"}] or {"a.jpg": "…"}',
    ".jsonl": '{"file_name": "a.jpg", "text": "…"}',
    ".csv": "file_name,text",
}


@dataclass(frozen=True)
class Entry:
    """What a table says of one image."""

    where: str
    """The entry's place, for people."""
    image: str
    """As the table writes it."""
    caption: str
    """Empty when the table gives attributes alone."""
    columns: dict[str, str] = field(default_factory=dict)
    """Everything else, as text."""


@dataclass(frozen=True)
class Fault:
    """An entry that can't be used, and why."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def read_table(path: Path, name: str) -> Iterator[Entry | Fault]:
    """The entries of a table in order; `name` is what it is called in messages.

    Raises:
        DataError: the file as a whole is no such table.
    """
    readers = {".json": _json_items, ".jsonl": _jsonl_items, ".csv": _csv_items}
    for where, item in readers[path.suffix](_text(path), path, name):
        yield item if isinstance(item, Fault) else _entry(where, item)


def tidy(text: str) -> str:
    """A caption in one line."""
    return " ".join(text.split())


_Items = Iterable[tuple[str, Any]]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"is not UTF-8 text: {error}"
    except OSError as error:
        what = f"can't be read: {error.strerror}"
    raise _no_table(path, what)


def _no_table(path: Path, what: str) -> DataError:
    return DataError([Problem(str(path), what, f"write it like {_EXAMPLES[path.suffix]}")])


def _json_items(text: str, path: Path, name: str) -> _Items:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_table(path, f"is not JSON: {error}") from error
    if isinstance(content, list):
        return [(f"{name}, entry {number}", item) for number, item in enumerate(content, start=1)]
    if isinstance(content, dict):
        return [(f"{name}, entry {number}", _named(*item)) for number, item in enumerate(content.items(), start=1)]
    raise _no_table(path, "is neither a list nor an object")


def _named(image: str, said: object) -> object:
    """One pair of the object form: the image's name, and its caption or an object with it."""
    if isinstance(said, str):
        return {"image_file": image, "caption": said}
    return {**said, "image_file": image} if isinstance(said, dict) else said


def _jsonl_items(text: str, path: Path, name: str) -> _Items:
    del path
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{name}, line {number}"
        if line.strip():
            try:
                yield where, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield where, Fault(where, f"is not JSON: {error}")


def _csv_items(text: str, path: Path, name: str) -> _Items:
    """Line by line, so that a stray quotation mark costs its own line and no caption swallows the next ones."""
    first, *lines = text.split("\n")
    columns = [column.strip() for column in _fields(first) or []]
    if not any(column in IMAGE_FIELDS for column in columns):
        raise _no_table(path, f"has no column {' or '.join(IMAGE_FIELDS[:3])}; its first line is {first[:100]!r}")
    for number, line in enumerate(lines, start=2):
        where, fields = f"{name}, line {number}", _fields(line)
        if fields is None:
            yield where, Fault(where, "is no CSV")
        elif fields and len(fields) != len(columns):
            yield where, Fault(where, f"{len(fields)} fields for {len(columns)} columns")
        elif fields:
            yield where, dict(zip(columns, fields, strict=True))


def _fields(line: str) -> list[str] | None:
    """The fields of one line, none of a blank one; None when it can't be read."""
    try:
        return next(csv.reader([line.rstrip("\r")], strict=True), [])
    except csv.Error:
        return None


def _entry(where: str, item: object) -> Entry | Fault:
    if not isinstance(item, dict):
        return Fault(where, "is not an object")
    image = next((name for name in IMAGE_FIELDS if _is_text(item.get(name))), None)
    if image is None:
        return Fault(where, f"names no image ({', '.join(IMAGE_FIELDS[:3])})")
    caption = next((name for name in CAPTION_FIELDS if _is_text(item.get(name))), None)
    columns = {key: plain_text(value) for key, value in item.items() if key not in (image, caption)}
    known = {key: value for key, value in columns.items() if value}
    entry = Entry(where, item[image].strip(), tidy(item[caption]) if caption else "", known)
    if not _is_unicode(entry):
        return Fault(where, "holds half a character (a lone surrogate), which can't be saved")
    return entry


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def plain_text(value: object) -> str:
    """A text or number as text (2011.0 as 2011); nothing for lists and objects, which no caption can ask for."""
    if isinstance(value, str):
        return tidy(value)
    if isinstance(value, float):
        return "" if math.isnan(value) else str(int(value)) if value.is_integer() else str(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _is_unicode(entry: Entry) -> bool:
    try:
        "".join([entry.image, entry.caption, *entry.columns, *entry.columns.values()]).encode()
    except UnicodeEncodeError:
        return False
    return True
